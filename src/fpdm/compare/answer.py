"""The answer of a comparison in one sentence, and what a reader should know before believing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fpdm.compare.report_view import DISTANCE, View, count, estimate, validation_order
from fpdm.compare.results import Comparison, Result
from fpdm.drawing.numbers import fixed, short
from fpdm.drawing.text import listing, shortened

LONGEST = 48  # characters of a name within the sentence
FAR = 30.0  # times the floor
ALIKE = 1.5  # models whose numbers of parameters differ by a smaller factor are of about the same size
_USUAL = 1000  # images that floors are compared at: they fall with the number of images, and distances do not


@dataclass(frozen=True)
class Headline:
    """The results that sum up a comparison, all at one budget.

    Attributes:
        first: The FPDM that was best on the validation images. Without an FPDM or without a DiT: the lowest distance.
        second: The DiT with the most parameters, or the best of several of about that size. Without an FPDM or without
            a DiT: the next lowest distance; None for a model alone.
        small: The smaller DiT that is nearest in size to `first`; None if there is none.
        beside_dit: Whether `first` is an FPDM and `second` a DiT.
    """

    first: Result
    second: Result | None
    small: Result | None
    beside_dit: bool

    @property
    def rows(self) -> list[Result]:
        """The results, `first` first."""
        return [row for row in (self.first, self.second, self.small) if row is not None]


def headline(comparison: Comparison) -> Headline:
    """Choose the results that sum up a comparison: at the middle one of the budgets that most models can afford."""
    view = View(comparison, ())
    most = max(len(view.best(budget)) for budget in view.budgets)
    budgets = [budget for budget in view.budgets if len(view.best(budget)) == most]
    rows = view.best(budgets[len(budgets) // 2])
    kinds = {one.model: one.kind for one in comparison.models}
    fpdms = sorted((row for row in rows if kinds.get(row.model) == "fpdm"), key=validation_order)
    dits = [row for row in rows if kinds.get(row.model) == "dit"]
    if not fpdms or not dits:
        first, *others = sorted(rows, key=lambda row: row.distance)
        return Headline(first, others[0] if others else None, None, False)
    first = fpdms[0]
    largest = max(row.parameters for row in dits)
    second = min((row for row in dits if row.parameters * ALIKE > largest), key=lambda row: row.distance)
    smaller = [row for row in dits if row.parameters * ALIKE <= largest]
    small = min(smaller, key=lambda row: abs(math.log(row.parameters / first.parameters)), default=None)
    return Headline(first, second, small, True)


def answer(comparison: Comparison) -> str:
    """Sum up a comparison in one sentence: a ratio of distances, and what it rests on."""
    view, found = View(comparison, ()), headline(comparison)
    trained = {one.model: one for one in comparison.models}
    first, second = found.first, found.second

    def named(row: Result, parameters: str = "", training: str = "") -> str:
        one, size = trained.get(row.model), f"{count(row.parameters)}{parameters}"
        steps = f", {one.steps:,}{training} steps" if one is not None and one.steps else ""
        return f"{shortened(row.model, LONGEST)} ({size}{steps})"

    start = f"At {first.budget:,} block passes {named(first, ' parameters', ' training')}"
    if second is None:
        floor = first.distance_floor
        far = ""
        if floor > 0:
            times = f"{_times(first.distance / floor)} times that of real training images"
            far = f", {times}" if first.distance > floor else f"; that of real training images is {short(floor)}"
        return f"{start} has a {DISTANCE} of {short(first.distance)}{far}."
    values = f"{short(first.distance)} against {short(second.distance)}"
    if not _differ(first, second) or min(first.distance, second.distance) <= 0:
        what = f"and {named(second)} do not differ clearly: {DISTANCE} {values}, and the intervals overlap"
    else:
        nearer = first.distance < second.distance
        ratio = second.distance / first.distance if nearer else first.distance / second.distance
        how = f"{_times(ratio)} times as {'close to' if nearer else 'far from'} the test images as"
        what = f"is {how} {named(second)}: {DISTANCE} {values}{_elsewhere(view, found)}"
    return f"{start} {what}{_beside(found, named)}."


def _elsewhere(view: View, found: Headline) -> str:
    """Say how the ratio of the first two differs at the other budgets."""
    assert found.second is not None
    ratios = []
    for budget in view.budgets:
        distances = {row.model: row.distance for row in view.best(budget)}
        values = [distances.get(row.model, 0.0) for row in (found.first, found.second)]
        if min(values) > 0:
            ratios.append(
                values[1] / values[0] if found.first.distance < found.second.distance else values[0] / values[1]
            )
    low, high = _times(min(ratios)), _times(max(ratios))
    return f" ({low} to {high} times over all budgets)" if low != high else ""


def _beside(found: Headline, named: Callable[[Result], str]) -> str:
    """Say how the small DiT compares."""
    if not found.beside_dit:
        return ""
    if found.small is None:
        assert found.second is not None
        is_small = found.second.parameters < ALIKE * found.first.parameters
        return "" if is_small else "; no DiT of its own size was compared"
    how = "not clearly closer or farther"
    if _differ(found.small, found.first):
        how = "clearly closer" if found.small.distance < found.first.distance else "clearly farther"
    return f"; the small DiT beside it, {named(found.small)}, is {how}, at {short(found.small.distance)}"


def _times(ratio: float) -> str:
    return fixed(ratio, 1 if ratio < 10 else 0)


def _differ(one: Result, other: Result) -> bool:
    """Whether the intervals of two results do not overlap."""
    low, high = sorted((estimate(one), estimate(other)), key=lambda each: each.value)
    return low.clearly_below(high)


def cautions(comparison: Comparison) -> list[str]:
    """Say which models are so far from real images or so near, or were trained so briefly, that a rank means little."""
    found = []
    for one in comparison.models:
        warmup = one.recipe.get("train", {}).get("warmup", 0)
        if 0 < one.steps <= warmup:
            found.append(
                f"{one.model} was trained for {one.steps:,} steps and never left its warm-up of {warmup:,}; train it "
                "longer, or with a smaller --batch-size or --warmup"
            )
    far = {}
    for row in comparison.rows:
        floor = row.distance_floor * max(row.floor_images / _USUAL, 1.0)
        ratio = row.distance / floor if floor > 0 else 0.0
        far[row.model] = min(ratio, far.get(row.model, ratio))
    too_far = {model: f"{ratio:.0f}" for model, ratio in far.items() if ratio >= FAR}
    if too_far:
        be, they, their = ("is", "it", "its") if len(too_far) == 1 else ("are", "they", "their")
        found.append(
            f"{listing([*too_far])} {be} at best {listing([*too_far.values()])} times as far from the test images as "
            f"real training images are: {they} may have learnt too little for {their} place to mean anything; look at "
            f"{their} samples"
        )
    return [*found, nearer] if (nearer := _nearer_than_real(comparison.rows)) else found


def _nearer_than_real(rows: Sequence[Result]) -> str:
    """Say which models measure as closer than real images, which none can be; empty if none does."""
    found = {row.model: row.images for row in rows if 0 < row.distance_floor > row.distance}
    if not found:
        return ""
    few = min(found.values())
    be, they = ("measures", "it repeats") if len(found) == 1 else ("measure", "they repeat")
    return (
        f"{listing([*found])} {be} as closer to the test images than real training images are: {few:,} images are too "
        f"few to tell, or {they} training images; look at the samples"
    )


def stage_in_words(comparison: Comparison) -> str:
    """Say how far a comparison has come that is made in stages; empty if it is the full protocol."""
    if comparison.is_full or not comparison.stages:
        return ""
    last = comparison.stages[-1]
    how = "each model with the plan that is stored with it" if last.plans == 1 else f"up to {last.plans} plans tried"
    low, high = last.images
    images = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return (
        f"This is not the full protocol but an answer on the way to it ({last.name}: {images} images per result, "
        f"{how}). The same command goes on with it; --full does nothing else."
    )


@dataclass(frozen=True)
class Compared:
    """A comparison and its page, as the command ends.

    Attributes:
        comparison: The comparison.
        page: Path of the page.
    """

    comparison: Comparison
    page: Path

    def to_text(self) -> str:
        """Return a table, the answer, and the path of the page in the last line."""
        warnings = [f"careful: {text}" for text in cautions(self.comparison)]
        how = [text] if (text := stage_in_words(self.comparison)) else []
        return "\n".join([self.comparison.to_text(), *warnings, *how, answer(self.comparison), str(self.page)])

    def to_json(self) -> str:
        """Return the content of `compare.json`."""
        return self.comparison.to_json()
