"""Nearest training images, which show whether a model repeats its training data."""

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
        indices: (N,) int64, indices into the training set; any of them if several are equally near.
        distances: (N,) float64, Euclidean distances between features; exactly 0 for equal features.
    """

    indices: Tensor
    distances: Tensor


def nearest(query: Features, training: Features) -> Nearest:
    """Find the nearest training image (M, F) to each query image (N, F) by Euclidean distance of features.

    Raises:
        ValueError: A set is empty, or the extractors or numbers of dimensions differ.
    """
    check_comparable(query, training)
    if not len(query.values) or not len(training.values):
        raise ValueError(f"{len(query.values)} and {len(training.values)} images; expected at least one in each set")
    found = [block.min(dim=1) for block in distance_blocks(query.values, training.values)]
    return Nearest(torch.cat([f.indices for f in found]), torch.cat([f.values for f in found]))


def nearest_in_pixels(images: Tensor, training: Tensor) -> Nearest:
    """Find the nearest training image (M, C, H, W) uint8 to each image (N, C, H, W) uint8 by pixels from 0 to 1.

    Raises:
        ValueError: A set is empty, or the shapes differ.
    """
    if images.shape[1:] != training.shape[1:] or not len(images) or not len(training):
        raise ValueError(
            f"images are {tuple(images.shape)} and training images {tuple(training.shape)}; expected at least one of "
            "each, of the same shape"
        )
    query = images.flatten(1).double() / 255.0  # (N, F)
    found = [
        torch.cdist(query, part.flatten(1).double() / 255.0, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
        for part in training.split(1024)
    ]  # of (N,) each
    distances, parts = torch.stack([one.values for one in found]).min(dim=0)  # (N,) each
    indices = torch.stack([one.indices for one in found]).gather(0, parts[None])[0] + 1024 * parts  # (N,)
    return Nearest(indices, distances)


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
