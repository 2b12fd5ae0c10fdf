"""Bootstrap intervals: how much a measure would vary with other images of the same model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.randomness import Stream, generator


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        value: The estimate from all images.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Confidence level, such as 0.95.
    """

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the bootstrap.

    Attributes:
        seed: Seed of the resamples.
        resamples: Number of resamples, each of N of the N images.
        level: Confidence level of the interval, between 0 and 1.

    Raises:
        ValueError: `resamples` is below 2, or `level` is out of range.
    """

    seed: int
    resamples: int
    level: float

    def __post_init__(self) -> None:
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}; expected 2 or more")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level is {self.level}; expected a number between 0 and 1, such as 0.95")

    def draws(self, n: int) -> Tensor:
        """Draw the images of each resample from `n`: indices (resamples, n) int64."""
        rows = [
            generator(self.seed, Stream.RESAMPLE, index=index).integers(n, size=n) for index in range(self.resamples)
        ]  # of (n,)
        return torch.stack([torch.from_numpy(row) for row in rows])  # (resamples, n)

    def interval(self, value: float, drawn: Tensor) -> Interval:
        """Compute the interval around `value` from the deviations of the resamples from their mean.

        A resample repeats images, which can shift its estimate. The deviations are free of that shift.

        Args:
            value: The estimate from all images.
            drawn: The estimates from the resamples, (resamples,) float64.
        """
        tails = torch.tensor([(1.0 - self.level) / 2.0, (1.0 + self.level) / 2.0], dtype=torch.float64)  # (2,)
        low, high = (value + (drawn - drawn.mean()).quantile(tails)).tolist()
        return Interval(value, low, high, self.level)
