"""The results of a comparison as the sections of its report look at them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fpdm.compare.results import Comparison, Result
from fpdm.drawing.numbers import fixed, short, unit
from fpdm.drawing.page import Cell
from fpdm.drawing.plots import Curves, Panel
from fpdm.drawing.ranking import Estimate, Ranking
from fpdm.drawing.sheets import Sheet
from fpdm.drawing.text import listing

DISTANCE = "Fréchet distance"
LEVEL = "95\u00a0%"  # no line breaks within it
REAL = "real training images"


class View:
    """The results of a comparison, arranged as the sections need them.

    Attributes:
        comparison: The comparison.
        sheets: Sheets of its images.
        strip: The images that stand beside the answer; None without any.
        rows: Its results.
        names: Names of the models. Their order decides how each looks in all figures.
        samplers: Names of the samplers, in the order of the results.
        budgets: Budgets from small to large.
        parameters: Number of parameters by model.
        real_count: Number of real images behind the floors, in words.
        timed: Whether every result has its seconds; 0 means not measured.
        seconds_of: What the seconds are, in words.
        greys: The models that are drawn in grey: all but the FPDMs, if there is one.
    """

    def __init__(self, comparison: Comparison, sheets: Sequence[Sheet], strip: Sheet | None = None) -> None:
        self.comparison = comparison
        self.sheets = sheets
        self.strip = strip
        self.rows = comparison.rows
        self.names = tuple(dict.fromkeys(one.model for one in (*comparison.models, *self.rows)))
        self.samplers = tuple(dict.fromkeys(row.sampler for row in self.rows))
        self.budgets = tuple(sorted({row.budget for row in self.rows}))
        self.parameters = {one.model: one.parameters for one in (*self.rows, *comparison.models)}
        fewer = sorted({row.floor_images for row in self.rows if row.floor_images < row.images})
        available = f" or all {listing([f'{n:,}' for n in fewer])} available" if fewer else ""
        self.real_count = f"as many as were generated{available}"
        ways = {"the fastest of several batches" if row.batches > 1 else "the mean" for row in self.rows}
        self.seconds_of = " or ".join(sorted(ways))
        others = [one.model for one in comparison.models if one.kind != "fpdm"]
        self.greys = tuple(others) if len(others) < len(comparison.models) else ()
        self.timed = all(math.isfinite(row.seconds) and row.seconds > 0 for row in self.rows)

    def of_sampler(self, sampler: str) -> list[Result]:
        """Return the results of a sampler, ordered by budget and model."""
        mine = [row for row in self.rows if row.sampler == sampler]
        return sorted(mine, key=lambda row: (row.budget, self.names.index(row.model)))

    def best(self, budget: int) -> list[Result]:
        """Return each model's result at a budget, with the sampler that was best on the validation images."""
        rows = sorted((row for row in self.rows if row.budget == budget), key=validation_order)
        first = {row.model: row for row in reversed(rows)}
        return [first[name] for name in self.names if name in first]

    def curves(self, panels: Sequence[Panel], y_label: str, *, logarithmic: bool = True) -> Curves:
        """Return a plot of panels, with the number of parameters in the legend."""
        labels = [f"{name} ({count(self.parameters[name])})" for name in self.names]
        return Curves(panels, self.names, labels, y_label, REAL, logarithmic=logarithmic, greys=self.greys)


def ranking(rows: Sequence[Result]) -> Ranking:
    """Rank results at one budget by distance."""
    return Ranking.of(rows[0].budget, [estimate(row) for row in rows])


def estimate(row: Result) -> Estimate:
    """Return the distance of a result with its interval."""
    return Estimate(row.model, row.distance, row.distance_low, row.distance_high)


def distance_cell(row: Result, order: Ranking, places: int, word: str = "") -> Cell:
    """Format the distance of a result and its interval, marked if it is the best or not clearly different from it."""
    interval = f"{fixed(row.distance_low, places)} to {fixed(row.distance_high, places)}"
    mark = ""
    if order.others:
        rivals = {rival.name for rival in order.rivals}
        mark = "best" if row.model == order.best.name else "even" if row.model in rivals else ""
    return Cell(fixed(row.distance, places), f"{interval}, {word}" if word else interval, mark)


def count(value: float) -> str:
    """Format 1234567 as "1.23 M"."""
    found = unit([value], "")
    return f"{short(value / found.factor)} {found.name}".strip()


def validation_order(row: Result) -> float:
    """Return the distance to the validation images, which orders results; those without one come last."""
    return math.inf if row.choosing_distance is None else row.choosing_distance
