"""Say in one short block how training on a folder of images was chosen, why, what to expect, and how to change it."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from fpdm.data.survey import Survey
from fpdm.drawing.numbers import short, time_in_words
from fpdm.errors import printable
from fpdm.models.cost import model_cost
from fpdm.runs.recipe import Recipe

if TYPE_CHECKING:
    from fpdm.training.choice import Way

WIDTH, INDENT = 110, 12
FEW_IMAGES = 300
BLURRED = 30_000  # images seen
EXPECT = (
    (3_000, "noise in the colours of the images"),
    (12_000, "a mosaic of patches in the colours of the images"),
    (BLURRED, "colours and blurred shapes"),
    (100_000, "shapes that tell what kind of images these are, no detail"),
    (250_000, "recognisable images with some detail"),
    (math.inf, "images as detailed as a model of this size makes them"),
)
"""By images seen; the first three were seen in trainings, the others are estimates from longer ones."""
RECOGNISABLE = 100_000  # images seen
NEARLY_ALL = 0.95  # of an image


def describe(
    way: Way, larger: Way | None, found: Survey, steps: int, machine: str, *, whole: float | None = None
) -> str:
    """Describe a choice in a few lines.

    Args:
        way: What was chosen, its recipe complete.
        larger: The same at the next larger size; None if there is none.
        found: What the folder holds.
        steps: Number of steps expected.
        machine: The machine in words.
        whole: Seconds in which all is to be done; None if only the steps count.
    """
    rows = {
        "images": _images(way.recipe, larger, found),
        "trained": _space(way),
        "model": _model(way.recipe),
        "steps": _steps(way.recipe, steps),
        "time": _time(way, machine, whole),
        "classes": _classes(way.recipe, found),
        "expect": _expectation(way, found),
    }
    lines = [f"{printable(found.folder)}: {found.to_text()}"]
    for name, text in rows.items():
        if text:
            lines += textwrap.wrap(
                f"  {name:<{INDENT - 2}}{text}", WIDTH, subsequent_indent=" " * INDENT, break_on_hyphens=False
            )
    return "\n".join(lines)


def _images(recipe: Recipe, larger: Way | None, found: Survey) -> str:
    data, side = recipe.data, found.side.median
    how = [f"{data.size} x {data.size} pixels", "grey" if data.channels == 1 else "in colour"]
    if found.mixed:
        how.append("cropped to squares" + (f" (the middle {found.kept:.0%})" if found.kept < NEARLY_ALL else ""))
    if data.size != round(side):
        how.append(f"{'shrunk' if data.size < side else 'enlarged'} from {side:g}")
    how += ["white where they are transparent"] if found.transparent else []
    more = ""
    if larger is not None:
        size = larger.recipe.data.size
        more = f"; {size} pixels take {time_in_words(larger.needed)} or more here (--size {size})"
    return ", ".join(how) + more


def _space(way: Way) -> str:
    if not way.stages:
        return "on pixels (--space latents: on latents of an autoencoder that is trained first)"
    model = way.recipe.model
    return (
        f"on latents of {model.image_size} x {model.image_size} x {model.in_channels}, which stand for the images; an "
        "autoencoder that makes them is trained first (--space pixels: without)"
    )


def _model(recipe: Recipe) -> str:
    parameters = model_cost(recipe.model).total_parameters
    return (
        f"{recipe.name}: {short(parameters / 1e6)} M parameters, width {recipe.model.width}, {recipe.model.tokens} "
        "tokens (--model, --width, --patch-size)"
    )


def _steps(recipe: Recipe, steps: int) -> str:
    train = recipe.train
    falls = f", falling to zero over the last {train.decay:.0%} of the time" if train.decay else ""
    return (
        f"about {steps:,} of {train.batch_size} images; learning rate {train.learning_rate:.2g} after {train.warmup} "
        f"steps{falls} (--batch-size, --learning-rate)"
    )


def _time(way: Way, machine: str, whole: float | None) -> str:
    parts = [f"{time_in_words(way.autoencoder_seconds)} for the autoencoder"] if way.stages else []
    parts.append(f"{time_in_words(way.recipe.train.seconds)} for the {'model' if way.stages else 'steps'}")
    if whole is None:
        return f"{', '.join(parts)}, and reading, samples and validation on top, on {machine} (--minutes counts all)"
    return (
        f"{time_in_words(whole)} on {machine}: {', '.join(parts)}, the rest for reading, samples and validation "
        "(--minutes)"
    )


def _classes(recipe: Recipe, found: Survey) -> str:
    if recipe.data.conditional and found.classes:
        return f"{len(found.classes)}, learned by name (--no-conditional: without)"
    return f"not learned: {found.small_classes}" if found.small_classes else ""


def _expectation(way: Way, found: Survey) -> str:
    text = next(text for most, text in EXPECT if way.seen < most)
    if found.images < FEW_IMAGES and way.seen >= BLURRED:
        text += f", and hardly any that is not among the {found.images}: more images give new ones"
    if way.seen < RECOGNISABLE:
        needed = (RECOGNISABLE / way.per_second) * (1 + way.autoencoder_seconds / way.recipe.train.seconds)
        text += f"; {time_in_words(needed)} for recognisable images"
    return text
