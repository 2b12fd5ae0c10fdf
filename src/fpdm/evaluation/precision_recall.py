"""Precision and recall of generated images: how much of each set lies within the manifold of the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.evaluation.blocks import distance_blocks
from fpdm.evaluation.features import Features, check_comparable
from fpdm.evaluation.measure import Measure, RealFeatures

NEIGHBOUR = 3  # the radius of a ball is the distance to this nearest neighbour


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall of a set of generated images.

    Attributes:
        precision: Share of generated images within the manifold of the real ones: are they realistic?
        recall: Share of real images within the manifold of the generated ones: are they diverse?
    """

    precision: float
    recall: float


def precision_recall(generated: Features, reference: Features, k: int = NEIGHBOUR) -> PrecisionRecall:
    """Compute precision and recall from nearest neighbours (Kynkäänniemi et al. 2019, eq. 1 and 2).

    The manifold of a set is the union of balls around its images, each reaching to the `k`-th nearest neighbour in the
    set. More images make smaller balls, so both values depend on N and M: use equal numbers, and compare only values
    from the same numbers.

    Args:
        generated: Features of the generated images, (N, F).
        reference: Features of the real images, (M, F).
        k: Which nearest neighbour gives the radius.

    Raises:
        ValueError: `k` is below 1, a set has `k` images or fewer, or the extractors or numbers of dimensions differ.
    """
    check_comparable(generated, reference)
    fewest = min(len(generated.values), len(reference.values))
    if not 1 <= k < fewest:
        raise ValueError(f"k is {k} and a set has {fewest} images; expected k of 1 or more, and more images than k")
    x, y = generated.values, reference.values  # (N, F), (M, F)
    return PrecisionRecall(_covered(x, y, k), _covered(y, x, k))


def _covered(points: Tensor, images: Tensor, k: int) -> float:
    """Return the share of `points` (N, F) within the manifold of `images` (M, F)."""
    # Each image is its own nearest neighbour, at distance 0.
    radii = [block.topk(k + 1, dim=1, largest=False).values[:, -1] for block in distance_blocks(images, images)]
    radius = torch.cat(radii)  # (M,)
    inside = [(block <= radius).any(dim=1) for block in distance_blocks(points, images)]  # of (n,)
    return float(torch.cat(inside).double().mean())


def _measure(generated: Features, real: RealFeatures, seed: int) -> dict[str, float]:
    # Both values depend on the numbers of images, so equal numbers are taken; the test images are spread evenly.
    m = len(real.test.values)
    n = min(len(generated.values), m)
    few = Features(generated.values[:n], generated.extractor)  # (n, F)
    test = Features(real.test.values[torch.arange(n) * m // n], real.test.extractor)  # (n, F)
    found = precision_recall(few, test)
    return {"precision": found.precision, "recall": found.recall}


PRECISION_RECALL = Measure(
    _measure,
    explanation=(
        "Precision and recall",
        "are the share of generated images that lie within the manifold of the real ones, and the share of real "
        "images within that of the generated ones (Kynkäänniemi et al. 2019).",
    ),
)
