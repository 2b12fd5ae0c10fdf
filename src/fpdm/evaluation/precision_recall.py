"""Precision and recall of generated images: how much of each set lies within the other's manifold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.evaluation.blocks import distance_blocks
from fpdm.evaluation.features import Features, check_comparable


@dataclass(frozen=True)
class PrecisionRecall:
    """How much of each set of images lies within the other's manifold.

    Attributes:
        precision: Share of the generated images within the real ones' manifold: are they like real ones?
        recall: Share of the real images within the generated ones' manifold: is all that is real made?
    """

    precision: float
    recall: float


def precision_recall(generated: Features, reference: Features, k: int = 3) -> PrecisionRecall:
    """Precision and recall by nearest neighbours (Kynkäänniemi et al. 2019, eq. 1 and 2).

    A set's manifold is the union of balls around its images, each as far as the image's `k`-th nearest neighbour in the
    set. More images make smaller balls, so both figures depend on N and M: give equal numbers, and compare only figures
    from the same numbers.

    Args:
        generated: (N, F).
        reference: Of real images, (M, F).
        k: Which neighbour.

    Raises:
        ValueError: `k` below 1, a set of no more than `k` images, or features of different extractors or numbers of
            dimensions.
    """
    check_comparable(generated, reference)
    fewest = min(len(generated.values), len(reference.values))
    if not 1 <= k < fewest:
        raise ValueError(f"k is {k} and a set has {fewest} images; expected k of 1 or more, and more images than k")
    x, y = generated.values, reference.values  # (N, F), (M, F)
    return PrecisionRecall(_covered(x, y, k), _covered(y, x, k))


def _covered(points: Tensor, images: Tensor, k: int) -> float:
    """The share of `points` (N, F) in the manifold of `images` (M, F)."""
    # Each image is its own nearest neighbour, at distance 0.
    radii = [block.topk(k + 1, dim=1, largest=False).values[:, -1] for block in distance_blocks(images, images)]
    radius = torch.cat(radii)  # (M,)
    inside = [(block <= radius).any(dim=1) for block in distance_blocks(points, images)]  # of (n,)
    return float(torch.cat(inside).double().mean())
