"""The nearest training image to each image, which shows whether a model repeats what it was trained on."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.evaluation.blocks import distance_blocks
from fpdm.evaluation.features import Features, check_comparable
from fpdm.evaluation.measure import Measure, RealFeatures


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


@functools.lru_cache(maxsize=1)
def _median_of_test(real: RealFeatures) -> float:
    # Never 0, which the median is if most test images are copies of training images.
    return max(float(nearest(real.test, real.train).distances.median()), 1e-12)


def _measure(generated: Features, real: RealFeatures, seed: int) -> dict[str, float]:
    return {"novelty": float(nearest(generated, real.train).distances.median()) / _median_of_test(real)}


NOVELTY = Measure(
    _measure,
    explanation=(
        "Novelty",
        "is the median distance of generated images to their nearest training image, divided by the same median of "
        "the test images: 1 means as far away as unseen images, near 0 means memorised.",
    ),
)
