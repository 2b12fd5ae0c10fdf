"""Format numbers for readers: a few digits, one unit per column."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import numpy as np

MISSING = "–"
_PREFIXES = {1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "µ"}


class Unit(NamedTuple):
    """A unit: values divided by `factor` are in `name`."""

    factor: float
    name: str


def unit(values: Iterable[float], name: str) -> Unit:
    """Choose the unit in which the largest value has one to three digits before the point: MMACs, GB, ms."""
    largest = max((abs(value) for value in values), default=0.0)
    factor = next((factor for factor in _PREFIXES if largest >= factor), 1.0)
    return Unit(factor, f"{_PREFIXES[factor]}{name}")


def duration(values: Iterable[float]) -> Unit:
    """Choose the unit for durations given in seconds: s, min or h."""
    largest = max(values, default=0.0)
    return Unit(3600.0, "h") if largest >= 7200 else Unit(60.0, "min") if largest >= 120 else Unit(1.0, "s")


def decimals(values: Iterable[float]) -> int:
    """Choose the decimals of a column: three digits of the median and two of the smallest value, 4 at most."""
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return 0
    wanted = max(2 - math.floor(math.log10(median(sizes))), 1 - math.floor(math.log10(min(sizes))))
    return min(max(wanted, 0), 4)


def fixed(value: float, places: int) -> str:
    """Format a value with this many decimals and with thousands commas; a dash if it is not finite."""
    if not math.isfinite(value):
        return MISSING
    return f"{round(value, places) + 0.0:,.{places}f}".replace("-", "−")


def short(value: float) -> str:
    """Format a value with three significant digits, or all those before the point."""
    return fixed(value, decimals([value]))


def smoothed(values: np.ndarray, share: float = 0.02) -> np.ndarray:
    """Return the centred moving mean of `values`, which leaves straight lines straight.

    Args:
        values: Numbers in order, (N,).
        share: Half-width of the window, as a share of all values. It shrinks towards both ends.

    Returns:
        The means, (N,).
    """
    reach = int(share * len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])  # (N + 1,)
    places = np.arange(len(values))  # (N,)
    reach_here = np.minimum(reach, np.minimum(places, places[::-1]))  # (N,): alike on both sides, at the ends too
    return (sums[places + reach_here + 1] - sums[places - reach_here]) / (2 * reach_here + 1)  # (N,)


def time_in_words(seconds: float) -> str:
    """Return a time in words, in the unit that suits it: "40 s", "25 min", "3.5 hours"."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"
