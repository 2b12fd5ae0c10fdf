"""The nearest training image to each image, and with it whether a model repeats what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.evaluation.blocks import distance_blocks
from fpdm.evaluation.features import Features, check_comparable


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest training image to each of N images.

    Attributes:
        indices: (N,) int64, places in the training set; of equally near ones any.
        distances: (N,) float64, Euclidean, in feature space; exactly 0 for equal features.
    """

    indices: Tensor
    distances: Tensor


def nearest(query: Features, training: Features) -> Nearest:
    """The nearest of the training images (M, F) to each query image (N, F), by the features' Euclidean distance.

    Raises:
        ValueError: No images, or features of different extractors or numbers of dimensions.
    """
    check_comparable(query, training)
    if not len(query.values) or not len(training.values):
        raise ValueError(f"{len(query.values)} and {len(training.values)} images; expected at least one in each set")
    found = [block.min(dim=1) for block in distance_blocks(query.values, training.values)]
    return Nearest(torch.cat([f.indices for f in found]), torch.cat([f.values for f in found]))


def novelty(generated: Features, training: Features, held_out: Features) -> float:
    """How far generated images are from the training images, with unseen real images as the measure.

    The median distance of generated images to their nearest training image, over that of held-out images. Near 0, the
    model repeats training images; at about 1, its images are as new as real ones; above 1, they are farther from the
    training images than real ones are, be it for new things or for damage.

    Args:
        generated: (N, F).
        training: (M, F), what the model was trained on.
        held_out: (L, F), real images that it was not trained on.

    Raises:
        ValueError: As `nearest`, or at least half of the held-out images are equal to training images.
    """
    unseen = float(nearest(held_out, training).distances.median())
    if unseen == 0.0:
        raise ValueError(
            "at least half of the held-out images have the features of a training image; expected images that are not "
            "in the training set"
        )
    return float(nearest(generated, training).distances.median()) / unseen
