"""Intervals by the bootstrap: how far a figure of generated images would move with other images of the same model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.randomness import Stream, generator


@dataclass(frozen=True)
class Interval:
    """An estimate and what lies around it.

    Attributes:
        value: From all images.
        low: The interval's lower end.
        high: Its upper end.
        level: The share of such intervals that should hold what they estimate.
    """

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Bootstrap:
    """How images are drawn again.

    Attributes:
        seed: The resamples are a function of it.
        resamples: How often to draw N of the N images.
        level: Of the interval, between 0 and 1.

    Raises:
        ValueError: `resamples` below 2, or `level` out of range.
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
        """Which of `n` images each resample takes: (resamples, n) int64."""
        rows = [
            generator(self.seed, Stream.RESAMPLE, index=index).integers(n, size=n) for index in range(self.resamples)
        ]  # of (n,)
        return torch.stack([torch.from_numpy(row) for row in rows])  # (resamples, n)

    def interval(self, value: float, drawn: Tensor) -> Interval:
        """The interval around `value`, by the resamples' deviations from their mean.

        A resample repeats images, which can shift what it finds. The deviations do not have that shift.

        Args:
            value: From all images.
            drawn: From each resample, (resamples,) float64.
        """
        tails = torch.tensor([(1.0 - self.level) / 2.0, (1.0 + self.level) / 2.0], dtype=torch.float64)  # (2,)
        low, high = (value + (drawn - drawn.mean()).quantile(tails)).tolist()
        return Interval(value, low, high, self.level)
