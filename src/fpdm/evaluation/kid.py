"""The kernel distance (KID) between two sets of images: the squared maximum mean discrepancy of their features."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fpdm.evaluation.blocks import rows_of_a_block
from fpdm.evaluation.bootstrap import Bootstrap, Interval
from fpdm.evaluation.features import Features, check_comparable
from fpdm.evaluation.measure import Measure, RealFeatures


def kernel_distance(generated: Features, reference: Features) -> float:
    """Compute the unbiased squared MMD with k(x, y) = (x.y / F + 1)^3, as in KID (Binkowski et al. 2018).

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j), over all images and not over
    subsets of them. Its expectation does not depend on the numbers of images and is 0 for two sets from the same
    distribution, so a value can be negative. It is called KID only in the features of Inception.

    Args:
        generated: Features of the generated images, (N, F).
        reference: Features of the real images, (M, F).

    Raises:
        ValueError: A set has fewer than 2 images, the extractors or numbers of dimensions differ, or the features are
            so large that their kernel is not finite.
    """
    n = len(generated.values)
    once = torch.ones(1, n, dtype=torch.float64)  # (1, N)
    return float(_pair_sums(generated, reference, once)) / (n * (n - 1))


def kernel_interval(
    generated: Features, reference: Features, *, seed: int, level: float = 0.95, resamples: int = 200
) -> Interval:
    """Compute the kernel distance with a bootstrap interval over the generated images.

    An image that occurs twice in a resample does not form a pair with itself. The reference is taken as exact. If the
    images cannot be distinguished from the reference, the interval is wider than necessary, as the bootstrap of a
    U-statistic is near zero.

    Args:
        generated: Features of the generated images, (N, F).
        reference: Features of the real images, (M, F).
        seed: Seed of the resamples.
        level: Confidence level of the interval, between 0 and 1.
        resamples: Number of resamples, each of N of the N images.

    Raises:
        ValueError: See `kernel_distance`; or `resamples` or `level` is out of range.
    """
    bootstrap = Bootstrap(seed, resamples, level)
    n = len(generated.values)
    counts = [torch.arange(n), *bootstrap.draws(n)]  # of (N,): which images; the first all of them
    counts = torch.stack([chosen.bincount(minlength=n) for chosen in counts]).double()  # (1 + resamples, N)
    sums = _pair_sums(generated, reference, counts)  # (1 + resamples,)
    # A resample has n (n - 1) ordered pairs too, but on average only (n - 1)^2 of them are of two different images.
    return bootstrap.interval(float(sums[0]) / (n * (n - 1)), sums[1:] / (n - 1) ** 2)


def _pair_sums(generated: Features, reference: Features, counts: Tensor) -> Tensor:
    """Sum h over ordered pairs of two different generated images, where image i occurs `counts[:, i]` times.

    h(x, x') = k(x, x') - c(x) - c(x') + r, where c(x) is the mean of k(x, y) over the reference and r that of k(y, y').
    The mean of h over all pairs is the distance.

    Args:
        generated: (N, F).
        reference: (M, F).
        counts: (R, N) float64, each row of sum N.

    Returns:
        (R,) float64.
    """
    check_comparable(generated, reference)
    for features in (generated, reference):
        if len(features.values) < 2:
            raise ValueError(f"a set has {len(features.values)} images; expected 2 or more, to have pairs")
    x, y = generated.values, reference.values  # (N, F), (M, F)
    n, m = len(x), len(y)
    across = torch.cat([_kernel(rows, y).mean(dim=1) for rows in x.split(rows_of_a_block(m))])  # (N,), c
    real = _mean_kernel(reference)  # (1,), r
    pairs = n**2 - counts.square().sum(dim=1)  # (R,)
    sums = _kernel_sums(x, counts) - 2.0 * (counts * (n - counts)) @ across + real * pairs  # (R,)
    if not bool(sums.isfinite().all()):
        largest = float(torch.cat([x, y]).abs().max())
        raise ValueError(f"features as large as {largest:.3g} have a kernel that is not finite")
    return sums


@functools.lru_cache(maxsize=4)  # one reference serves many sets of generated images
def _mean_kernel(features: Features) -> Tensor:
    """Return the mean of k over ordered pairs of two different images, (1,)."""
    m = len(features.values)
    return _kernel_sums(features.values, torch.ones(1, m, dtype=torch.float64)) / (m * (m - 1))  # (1,)


def _kernel_sums(x: Tensor, counts: Tensor) -> Tensor:
    """Sum k over ordered pairs of two different rows of `x` (N, F), where row i occurs `counts[:, i]` times: (R,)."""
    total = torch.zeros(len(counts), dtype=torch.float64)  # (R,)
    step = rows_of_a_block(len(x))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        # Only the entries above the diagonal: each pair once.
        kernel = _kernel(x[rows], x[start:]).triu_(1)  # (n, N - start)
        total += (counts[:, rows] @ kernel * counts[:, start:]).sum(dim=1)  # (R,)
    return 2.0 * total


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_j), (n, m), of `x` (n, F) and `y` (m, F)."""
    return (x @ y.T).div_(x.shape[1]).add_(1.0).pow_(3)  # (n, m)


def _measure(generated: Features, real: RealFeatures, seed: int) -> dict[str, float]:
    found = kernel_interval(generated, real.test, seed=seed)
    return {"kid": found.value, "kid_low": found.low, "kid_high": found.high}


def _floor(training: Features, real: RealFeatures) -> dict[str, float]:
    return {"kid_floor": kernel_distance(training, real.test)}


KID = Measure(_measure, _floor)
