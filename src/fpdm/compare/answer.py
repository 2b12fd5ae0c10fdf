"""The answer of a comparison in words, and what a reader should know before believing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fpdm.compare.report_view import DISTANCE, View, ranking
from fpdm.compare.results import Comparison
from fpdm.drawing.ranking import verdict

FAR = 30.0  # times the floor
_USUAL = 1000  # images that floors are compared at: they fall with the number of images, and distances do not


def answer(comparison: Comparison) -> str:
    """Say which model is best at which budget, and whether the difference is clear."""
    view = View(comparison, ())
    return " ".join(verdict([ranking(view.best(budget)) for budget in view.budgets], quantity=DISTANCE))


def cautions(comparison: Comparison) -> list[str]:
    """Say which models are so far from real images, or were trained so briefly, that a ranking means little."""
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
    for model, ratio in far.items():
        if ratio >= FAR:
            found.append(
                f"{model} is at best {ratio:.0f} times as far from the test images as real training images are: it may "
                "have learnt too little for its place to mean anything; look at its samples"
            )
    return found


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
