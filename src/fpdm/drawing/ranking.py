"""Who is ahead, in words that intervals bear out."""

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
        name: Whose.
        value: Lower is better.
        low: The interval's lower end.
        high: Its upper end.
    """

    name: str
    value: float
    low: float
    high: float

    def clearly_below(self, other: Estimate) -> bool:
        """Whether the whole interval lies below the other's."""
        return self.high < other.low

    def __str__(self) -> str:
        places = decimals([self.value])
        return f"{fixed(self.value, places)} ({fixed(self.low, places)} to {fixed(self.high, places)})"


@dataclass(frozen=True)
class Standing:
    """The order at one budget.

    Attributes:
        budget: In block passes.
        best: The lowest.
        others: The rest, lowest first.
    """

    budget: int
    best: Estimate
    others: tuple[Estimate, ...]

    @classmethod
    def of(cls, budget: int, estimates: Sequence[Estimate]) -> Standing:
        """Order the estimates, of which there is at least one."""
        best, *others = sorted(estimates, key=lambda estimate: estimate.value)
        return cls(budget, best, tuple(others))

    @property
    def rivals(self) -> tuple[Estimate, ...]:
        """Those that do not clearly differ from the best: the intervals overlap."""
        return tuple(other for other in self.others if not self.best.clearly_below(other))


def verdict(standings: Sequence[Standing], *, quantity: str) -> list[str]:
    """Which is lowest at which budgets, and whether that is clear, in at most four sentences.

    Where intervals overlap there is no clear difference, whatever the values are.

    Args:
        standings: One for each budget, in order.
        quantity: What the values are, as "Fréchet distance".
    """
    compared = [standing for standing in standings if standing.others]
    alone = [standing for standing in standings if not standing.others]
    clear = [standing for standing in compared if not standing.rivals]
    unclear = [standing for standing in compared if standing.rivals]
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
    for name, mine in _stretches(alone, lambda standing: standing.best.name):
        name = shortened(name, LONGEST)
        what = f"only {name} was measured, with" if compared else f"block passes {name} has a {quantity} of"
        sentences.append(f"At {_budgets(mine)} {what} {_values(mine)}.")
    return sentences


def _lowest(standings: Sequence[Standing], quantity: str) -> str:
    parts = []
    for name, mine in _stretches(standings, lambda standing: standing.best.name):
        name = shortened(name, LONGEST)
        first = f"At {_budgets(mine)} block passes {name} has the lowest {quantity}, {_values(mine)}"
        parts.append(f"at {_budgets(mine)} it is {name}, with {_values(mine)}" if parts else first)
    return "; ".join(parts) + "."


def _next(standings: Sequence[Standing]) -> str:
    parts = []
    for name, mine in _stretches(standings, lambda standing: standing.others[0].name):
        where = f" at {_budgets(mine)}" if len(mine) < len(standings) else ""
        parts.append(
            f"{shortened(name, LONGEST)}{where} with {listing([str(standing.others[0]) for standing in mine])}"
        )
    return "; ".join(parts)


def _even(standings: Sequence[Standing], compared: Sequence[Standing]) -> str:
    parts = []
    for names, mine in _stretches(standings, lambda standing: [rival.name for rival in standing.rivals]):
        where = f" at {_budgets(mine)}" if len(mine) < len(compared) else ""
        names = [shortened(name, LONGEST) for name in names]
        parts.append(f"to {listing(names) if len(names) < 4 else f'{len(names)} other models'}{where}")
    return listing(parts)


def _stretches(standings: Sequence[Standing], key: Callable[[Standing], T]) -> Iterator[tuple[T, list[Standing]]]:
    """Neighbours that are alike, together."""
    return ((what, list(group)) for what, group in groupby(standings, key=key))


def _budgets(standings: Sequence[Standing]) -> str:
    return listing([f"{standing.budget:,}" for standing in standings])


def _values(standings: Sequence[Standing]) -> str:
    return listing([str(standing.best) for standing in standings])
