"""The sections of a report about the models: size and memory, convergence, training, settings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from fpdm.compare.report_view import View
from fpdm.compare.results import Trained
from fpdm.configuration import flatten
from fpdm.drawing.figures import Drawing, FigureWriter
from fpdm.drawing.numbers import MISSING, Unit, decimals, duration, fixed, short, smoothed, unit
from fpdm.drawing.page import Block, Cell, Code, Fold, Group, Section, Table
from fpdm.drawing.plots import Curve, Curves, DotPanel, Dots, HeatMap, HeatMaps, Panel
from fpdm.drawing.text import listing, shortened

POINTS = 400  # of a loss curve
_PLAIN = Unit(1.0, "")


def models_section(view: View, figures: FigureWriter) -> Section:
    """List the models' parameters, training and memory."""
    return Section("Models", [_models_table(view.comparison.models), *figures.draw(view, (models_figure,))])


def _models_table(models: Sequence[Trained]) -> Table:
    def number(value: Callable[[Trained], float], to: Unit = _PLAIN) -> Callable[[Trained], str]:
        places = decimals(value(one) / to.factor for one in models)
        return lambda one: fixed(value(one) / to.factor, places)

    def share(value: Callable[[Trained], float], to: Unit) -> Callable[[Trained], Cell]:
        write, largest = number(value, to), max(map(value, models))
        return lambda one: Cell(write(one), f"{100 * value(one) / largest:.0f} %" if largest else "")

    size, saved = _size_unit(models), _saved_unit(models)
    macs, time = unit((one.macs for one in models), "MACs"), duration(one.seconds for one in models)
    columns: list[tuple[str, Callable[[Trained], str | Cell]]] = [
        ("model", lambda one: one.model),
        (_size_label(size), number(lambda one: one.parameters, size)),
        ("training steps", lambda one: f"{one.steps:,}"),
        ("images seen", lambda one: f"{one.images_seen:,}"),
        (f"training {macs.name}", number(lambda one: one.macs, macs)),
        (f"training {time.name}", number(lambda one: one.seconds, time)),
        (f"saved {saved.name}, mean", share(lambda one: one.saved_bytes, saved)),
        (f"saved {saved.name}, most", share(lambda one: one.saved_bytes_max, saved)),
        ("final loss", number(_final_loss)),
        ("validation loss", number(_validation_loss)),
    ]
    return Table(
        "Size of the models and cost of their training. Saved memory is what a training step keeps per image for the "
        "backward pass, mean and largest over the random numbers of iterations; small print gives the share of the "
        "largest model. The final loss is the mean over the last twentieth of the training.",
        [title for title, _ in columns],
        [Group([[write(one) for _, write in columns] for one in models])],
    )


def models_figure(view: View) -> list[Drawing]:
    """Draw size, memory and training of the models, if there are several."""
    models = view.comparison.models
    if len(models) == 1:
        return []
    names, size, saved = [one.model for one in models], _size_unit(models), _saved_unit(models)
    panels = [
        DotPanel(_size_label(size), [one.parameters / size.factor for one in models]),
        DotPanel(
            f"saved {saved.name} per image",
            [one.saved_bytes / saved.factor for one in models],
            [one.saved_bytes_max / saved.factor for one in models],
        ),
        DotPanel("training steps", [one.steps for one in models]),
    ]
    return [
        Drawing(
            "models",
            Dots(panels, names, view.greys),
            alt=f"Parameters, saved memory and training steps of {listing(names)}.",
            caption="Size, memory and training. For the memory, a dot is the mean over the random numbers of "
            "iterations and its line reaches to the largest.",
        )
    ]


def _size_unit(models: Sequence[Trained]) -> Unit:
    return unit((one.parameters for one in models), "")


def _size_label(size: Unit) -> str:
    return f"parameters ({size.name})" if size.name else "parameters"


def _saved_unit(models: Sequence[Trained]) -> Unit:
    return unit((one.saved_bytes_max for one in models), "B")


def convergence_section(view: View, figures: FigureWriter) -> Section:
    """Show how fast the fixed points converge; empty if no model iterates."""
    return Section("Convergence", figures.draw(view, (residuals_figure,)))


def residuals_figure(view: View) -> list[Drawing]:
    """Draw residuals by timestep and iteration."""
    iterating = [one for one in view.comparison.models if one.residuals]
    if not iterating:
        return []
    maps = [
        HeatMap(
            one.model,
            [str(timestep) for timestep in one.residual_timesteps],
            [str(k) for k, _ in enumerate(one.residuals[0], 1)],
            one.residuals,
        )
        for one in iterating
    ]
    last = [row[-1] for one in iterating for row in one.residuals]
    return [
        Drawing(
            "residuals",
            HeatMaps(maps, "timestep", "iteration", "relative change"),
            alt=f"Residual by timestep and iteration of {listing([one.model for one in iterating])}; after the last "
            f"iteration from {min(last):.1g} to {max(last):.1g}.",
            caption="How much an iteration still changes the iterate of the fixed point, |z − z′| / |z|, by timestep "
            "(noisiest at the top) and iteration, on one colour scale for all models. A row that darkens quickly "
            "converges quickly. A small change says nothing about the quality of the images.",
        )
    ]


def training_section(view: View, figures: FigureWriter) -> Section:
    """Show the losses of the models that recorded any."""
    return Section("Training", figures.draw(view, (loss_figure, validation_figure)))


def loss_figure(view: View) -> list[Drawing]:
    """Draw the training loss over steps and compute."""
    logged = [one for one in view.comparison.models if one.losses]
    if not logged:
        return []
    macs = unit((one.losses[-1][1] for one in logged), "MACs")
    panels = [
        Panel("training steps", [_loss_curve(one, 0, 1.0) for one in logged]),
        Panel(f"training {macs.name}", [_loss_curve(one, 1, macs.factor) for one in logged]),
    ]
    return [
        Drawing(
            "loss",
            Curves(panels, view.names, view.names, "training loss", logarithmic=True, greys=view.greys),
            alt=f"Training loss over steps and over multiply-accumulates; final: {_each(logged, _final_loss)}.",
            caption="Training loss over steps and over compute, smoothed; the recorded values are faint. Losses of "
            "models with different weightings cannot be compared.",
        )
    ]


def validation_figure(view: View) -> list[Drawing]:
    """Draw the validation loss over timesteps."""
    checked = [one for one in view.comparison.models if one.validation]
    if not checked:
        return []
    curves = [Curve(one.model, *map(list, zip(*sorted(one.validation), strict=True))) for one in checked]
    panel = Panel("timestep (larger is noisier)", curves, linear=True)
    return [
        Drawing(
            "validation",
            Curves([panel], view.names, view.names, "validation loss", logarithmic=True, greys=view.greys),
            alt=f"Loss on validation images by timestep; mean: {_each(checked, _validation_loss)}.",
            caption="Loss on validation images by timestep, with averaged weights.",
        )
    ]


def _loss_curve(one: Trained, column: int, factor: float) -> Curve:
    """The losses over steps (column 0) or compute (1), smoothed."""
    values = np.array([loss for *_, loss in one.losses])  # (n,)
    chosen = slice(None, None, -(-len(values) // POINTS))
    x = [row[column] / factor for row in one.losses[chosen]]
    return Curve(one.model, x, smoothed(values)[chosen].tolist(), raw=values[chosen].tolist())


def settings_section(view: View, figures: FigureWriter) -> Section:
    """List the settings in which the models differ, then every setting of each and of the comparison."""
    models, comparison = view.comparison.models, view.comparison.settings
    flat = [{"run": one.run, **{key: _text(value) for key, value in flatten(one.recipe).items()}} for one in models]
    fields = [field for field in dict.fromkeys(field for settings in flat for field in settings) if field != "name"]
    differing = [field for field in fields if len({settings.get(field, MISSING) for settings in flat}) > 1]
    blocks: list[Block] = []
    if differing:
        rows = [[field, *(settings.get(field, MISSING) for settings in flat)] for field in differing]
        names = [shortened(one.model, 48) for one in models]
        caption = f"The {len(differing)} settings that differ; {len(fields) - len(differing)} are equal."
        blocks.append(Table(caption, ["setting", *names], [Group(rows)], words=names))
    blocks += [Fold(f"Every setting of {one.model}", [_json(one.recipe)]) for one in models]
    if comparison:
        blocks.append(Fold("Every setting of the comparison", [_json(comparison)]))
    return Section("Settings", blocks)


def _json(values: dict[str, Any]) -> Code:
    return Code(json.dumps(values, indent=1, ensure_ascii=False))


def _each(models: Sequence[Trained], value: Callable[[Trained], float]) -> str:
    return listing([f"{one.model} {short(value(one))}" for one in models])


def _final_loss(one: Trained) -> float:
    last = one.losses[-max(1, len(one.losses) // 20) :]
    return fmean(loss for *_, loss in last) if last else math.nan


def _validation_loss(one: Trained) -> float:
    return fmean(loss for _, loss in one.validation) if one.validation else math.nan


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
