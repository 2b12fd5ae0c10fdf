"""The nearest training image to each image, which shows whether a model repeats what it was trained on."""

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
