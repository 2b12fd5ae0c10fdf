"""Rank models by estimates with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        name: Name of the model.
        value: The value; lower is better.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    name: str
    value: float
    low: float
    high: float

    def clearly_below(self, other: Estimate) -> bool:
        """Return whether the whole interval lies below that of the other."""
        return self.high < other.low


@dataclass(frozen=True)
class Ranking:
    """The ranking of models at one budget.

    Attributes:
        budget: Block passes.
        best: The lowest estimate.
        others: The other estimates, lowest first.
    """

    budget: int
    best: Estimate
    others: tuple[Estimate, ...]

    @classmethod
    def of(cls, budget: int, estimates: Sequence[Estimate]) -> Ranking:
        """Rank at least one estimate."""
        best, *others = sorted(estimates, key=lambda estimate: estimate.value)
        return cls(budget, best, tuple(others))

    @property
    def rivals(self) -> tuple[Estimate, ...]:
        """Estimates that do not clearly differ from the best, because the intervals overlap."""
        return tuple(other for other in self.others if not self.best.clearly_below(other))
