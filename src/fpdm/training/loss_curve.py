"""Draw the loss curve of a run."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fpdm.drawing.images import save_png
from fpdm.drawing.numbers import smoothed
from fpdm.drawing.plots import Curve, Curves, Look, Panel
from fpdm.drawing.sheets import rasterised
from fpdm.drawing.theme import LIGHT

TRAINING, VALIDATION = "training", "validation, averaged weights"
_MOST_POINTS = 2_000  # of a curve: more than twice the columns of the picture


def save_loss_curve(
    training: Iterable[dict[str, Any]], validation: Iterable[dict[str, Any]], path: Path, *, title: str
) -> None:
    """Draw the losses over steps as a PNG, unless none is finite.

    Args:
        training: Rows of metrics.jsonl with a "step" and a "loss", which is None if it was not finite.
        validation: Rows of validation.jsonl, with the same two fields.
        path: The file, which is written atomically.
        title: Title of the picture.
    """
    trained, validated = _points(training), _points(validation)
    curves = []
    if len(trained.steps):
        shown = _shown(len(trained.steps))
        steps, raw, smooth = (part[shown].tolist() for part in (*trained, smoothed(trained.losses)))
        curves.append(Curve(TRAINING, steps, smooth, raw=raw))
    if len(validated.steps):
        shown = _shown(len(validated.steps))
        curves.append(Curve(VALIDATION, *(part[shown].tolist() for part in validated)))
    if not curves:
        return
    names = [curve.name for curve in curves]
    plot = Curves([Panel("step", curves, title=title, linear=True)], names, names, "loss", logarithmic=True)
    save_png(np.asarray(rasterised(plot.draw(Look(LIGHT, wide=True)), 120)), path)
    # A figure's parts refer to each other, and a training makes so few objects that the collector hardly ever runs by
    # itself: each curve of a long run would leave its points behind.
    gc.collect()


class _Points(NamedTuple):
    """Finite losses and their steps, (N,) each."""

    steps: np.ndarray
    losses: np.ndarray


def _shown(count: int) -> np.ndarray:
    """Return the places of the points that are drawn, evenly spaced: drawing takes memory with each of them."""
    return np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(int)


def _points(rows: Iterable[dict[str, Any]]) -> _Points:
    finite = ((row["step"], row["loss"]) for row in rows if row["loss"] is not None)
    return _Points(*np.fromiter(finite, np.dtype((float, 2))).T)
