"""Rank models, and say in words what their intervals support."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from fpdm.drawing.numbers import decimals, fixed
from fpdm.drawing.text import listing, shortened

LONGEST = 48  # characters of a name within a sentence
T = TypeVar("T")


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

    def __str__(self) -> str:
        places = decimals([self.value])
        return f"{fixed(self.value, places)} ({fixed(self.low, places)} to {fixed(self.high, places)})"


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


def verdict(rankings: Sequence[Ranking], *, quantity: str) -> list[str]:
    """Say which model is lowest at which budgets, and whether clearly so, in at most four sentences.

    If intervals overlap, the difference is not called clear, whatever the values are.

    Args:
        rankings: One per budget, in order.
        quantity: Name of the values, such as "Fréchet distance".
    """
    compared = [ranking for ranking in rankings if ranking.others]
    alone = [ranking for ranking in rankings if not ranking.others]
    clear = [ranking for ranking in compared if not ranking.rivals]
    unclear = [ranking for ranking in compared if ranking.rivals]
    sentences = []
    if compared:
        sentences.append(_lowest(compared, quantity))
    if clear:
        where = (
            f"At {_budgets(clear)} its"
            if len(clear) < len(compared)
            else "Its"
            if len(clear) == 1
            else "Everywhere its"
        )
        sentences.append(f"{where} interval lies below all others; next is {_next(clear)}.")
    if unclear:
        sentences.append(f"There is no clear difference {_even(unclear, compared)}: the intervals overlap.")
    for name, mine in _stretches(alone, lambda ranking: ranking.best.name):
        name = shortened(name, LONGEST)
        what = f"only {name} was measured, with" if compared else f"block passes {name} has a {quantity} of"
        sentences.append(f"At {_budgets(mine)} {what} {_values(mine)}.")
    return sentences


def _lowest(rankings: Sequence[Ranking], quantity: str) -> str:
    parts = []
    for name, mine in _stretches(rankings, lambda ranking: ranking.best.name):
        name = shortened(name, LONGEST)
        first = f"At {_budgets(mine)} block passes {name} has the lowest {quantity}, {_values(mine)}"
        parts.append(f"at {_budgets(mine)} it is {name}, with {_values(mine)}" if parts else first)
    return "; ".join(parts) + "."


def _next(rankings: Sequence[Ranking]) -> str:
    parts = []
    for name, mine in _stretches(rankings, lambda ranking: ranking.others[0].name):
        where = f" at {_budgets(mine)}" if len(mine) < len(rankings) else ""
        parts.append(f"{shortened(name, LONGEST)}{where} with {listing([str(ranking.others[0]) for ranking in mine])}")
    return "; ".join(parts)


def _even(rankings: Sequence[Ranking], compared: Sequence[Ranking]) -> str:
    parts = []
    for names, mine in _stretches(rankings, lambda ranking: [rival.name for rival in ranking.rivals]):
        where = f" at {_budgets(mine)}" if len(mine) < len(compared) else ""
        names = [shortened(name, LONGEST) for name in names]
        parts.append(f"to {listing(names) if len(names) < 4 else f'{len(names)} other models'}{where}")
    return listing(parts)


def _stretches(rankings: Sequence[Ranking], key: Callable[[Ranking], T]) -> Iterator[tuple[T, list[Ranking]]]:
    """Group neighbours with the same key."""
    return ((what, list(group)) for what, group in groupby(rankings, key=key))


def _budgets(rankings: Sequence[Ranking]) -> str:
    return listing([f"{ranking.budget:,}" for ranking in rankings])


def _values(rankings: Sequence[Ranking]) -> str:
    return listing([str(ranking.best) for ranking in rankings])
