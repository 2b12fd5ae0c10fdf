"""The Fréchet distance between two sets of images, as Gaussians fitted to their features."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fpdm.evaluation.bootstrap import Bootstrap, Interval
from fpdm.evaluation.features import Features, check_comparable
from fpdm.evaluation.measure import Measure, RealFeatures


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """Mean and covariance of the features of a set of images.

    Attributes:
        mean: (F,) float64.
        covariance: (F, F) float64, divided by n - 1.
        n: Number of images; None if unknown.
        extractor: Same as `Features.extractor`.
    """

    mean: Tensor
    covariance: Tensor
    n: int | None
    extractor: str

    @property
    def dims(self) -> int:
        """Number of features per image, F."""
        return len(self.mean)

    @classmethod
    def of(cls, features: Features) -> GaussianStatistics:
        """Compute the statistics of features (N, F).

        Raises:
            ValueError: There are fewer than 2 images, or values so large that their products are not finite.
        """
        return cls.of_parts([features])

    @classmethod
    def of_parts(cls, parts: Iterable[Features]) -> GaussianStatistics:
        """Compute the statistics of features that come in parts, with one part in memory at a time.

        The result is a function of the parts and their order. Each part is summed around its own mean and merged with
        those before it (Chan et al. 1979), which avoids cancellation.

        Args:
            parts: Features, (N_i, F) each.

        Raises:
            ValueError: There are fewer than 2 images in all, values so large that their products are not finite, or
                parts with different extractors or numbers of dimensions.
        """
        joined, largest = None, 0.0
        for part in parts:
            if len(part.values):
                joined = joined.joined(_Sums.of(part)) if joined else _Sums.of(part)
                largest = max(largest, float(part.values.abs().max()))
        n = joined.n if joined else 0
        if joined is None or n < 2:
            raise ValueError(f"{n} image{'s' * (n != 1)} cannot have a covariance; expected 2 images or more")
        statistics = joined.statistics()
        if not bool(statistics.covariance.isfinite().all()):
            raise ValueError(f"features as large as {largest:.3g} have a covariance that is not finite")
        return statistics


@dataclass(frozen=True, eq=False)
class _Sums:
    """Mean (F,) of features (n, F), and sum (F, F) of the outer products of their deviations from it."""

    n: int
    mean: Tensor
    scatter: Tensor
    extractor: str

    @property
    def dims(self) -> int:
        return len(self.mean)

    @classmethod
    def of(cls, features: Features) -> _Sums:
        mean = features.values.mean(dim=0)  # (F,)
        centred = features.values - mean  # (n, F)
        return cls(len(centred), mean, centred.T @ centred, features.extractor)

    def joined(self, other: _Sums) -> _Sums:
        check_comparable(self, other)
        n, apart = self.n + other.n, other.mean - self.mean  # apart: (F,)
        scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.n * other.n / n)  # (F, F)
        return _Sums(n, self.mean + apart * (other.n / n), scatter, self.extractor)

    def statistics(self) -> GaussianStatistics:
        return GaussianStatistics(self.mean, self.scatter / (self.n - 1), self.n, self.extractor)


def frechet_distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """Compute the squared Fréchet (2-Wasserstein) distance of two Gaussians, as in FID (Dowson and Landau 1982).

    ||mu_a - mu_b||^2 + tr(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2}). It is biased upwards by about 1/n, so compare
    only values from equal numbers of images. It is called FID only in the features of Inception.

    Warns:
        UserWarning: A set has no more images than features, so that the covariance is singular and the bias large.

    Raises:
        ValueError: The extractors or numbers of dimensions differ.
    """
    _check(a, b)
    return _frechet(a, b)


def frechet_interval(
    features: Features, reference: GaussianStatistics, *, seed: int, resamples: int = 100, level: float = 0.95
) -> Interval:
    """Compute the Fréchet distance to a reference, with a bootstrap interval over the generated images.

    A resample repeats images, which raises the distance by about as much as n images exceed infinitely many. The
    deviations from the mean of the resamples are free of that, so the interval is for the expectation over sets of n
    images. The reference is taken as exact.

    Args:
        features: Features of the generated images, (N, F).
        reference: Statistics of the real images.
        seed: Seed of the resamples.
        resamples: Number of resamples, each of N of the N images.
        level: Confidence level of the interval, between 0 and 1.

    Warns:
        UserWarning: See `frechet_distance`.

    Raises:
        ValueError: See `GaussianStatistics.of` and `frechet_distance`; or `resamples` or `level` is out of range.
    """
    bootstrap = Bootstrap(seed, resamples, level)
    generated = GaussianStatistics.of(features)
    _check(generated, reference)
    drawn = [
        _frechet(_Sums.of(replace(features, values=features.values[chosen])).statistics(), reference)
        for chosen in bootstrap.draws(len(features.values))  # (N,)
    ]
    found = bootstrap.interval(_frechet(generated, reference), torch.tensor(drawn, dtype=torch.float64))
    return replace(found, low=max(found.low, 0.0))


def _check(a: GaussianStatistics, b: GaussianStatistics) -> None:
    check_comparable(a, b)
    fewest = min((one.n for one in (a, b) if one.n is not None), default=a.dims + 1)
    if fewest <= a.dims:
        warnings.warn(
            f"{fewest} images for features of {a.dims} dimensions: the distance is far too large; use more images",
            stacklevel=3,
        )


def _frechet(a: GaussianStatistics, b: GaussianStatistics) -> float:
    # Only eigenvalues of symmetric matrices: they are real, and those that rounding makes negative are known to be 0.
    eigenvalues, vectors = torch.linalg.eigh(a.covariance)  # (F,), (F, F)
    root = (vectors * eigenvalues.clamp_min(0.0).sqrt()) @ vectors.T  # (F, F), S_a^{1/2}
    product = root @ b.covariance @ root  # (F, F)
    cross = torch.linalg.eigvalsh((product + product.T) / 2.0).clamp_min(0.0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2.0 * cross
    return max(float(distance), 0.0)


@functools.lru_cache(maxsize=1)
def _statistics_of_test(real: RealFeatures) -> GaussianStatistics:
    return GaussianStatistics.of(real.test)


def _measure(generated: Features, real: RealFeatures, seed: int) -> dict[str, float]:
    found = frechet_interval(generated, _statistics_of_test(real), seed=seed)
    return {"distance": found.value, "distance_low": found.low, "distance_high": found.high}


def _floor(training: Features, real: RealFeatures) -> dict[str, float]:
    return {"distance_floor": frechet_distance(GaussianStatistics.of(training), _statistics_of_test(real))}


FRECHET = Measure(_measure, _floor)
