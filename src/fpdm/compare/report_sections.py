"""The sections of a report that are about the models themselves: size, memory, convergence, training, settings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from fpdm.compare.results import Trained
from fpdm.drawing.figures import Album
from fpdm.drawing.numbers import MISSING, Unit, decimals, duration, fixed, short, unit
from fpdm.drawing.page import Block, Cell, Code, Figure, Fold, Group, Section, Table
from fpdm.drawing.plots import Curve, Curves, DotPanel, Dots, HeatMap, HeatMaps, Panel
from fpdm.drawing.text import listing, shortened

POINTS = 400  # of a loss curve
_PLAIN = Unit(1.0, "")


def models_section(models: Sequence[Trained], album: Album) -> Section:
    """Parameters, training, memory: a table, and dots where there is more than one model."""
    table = _models_table(models)
    return Section("Models", [table] if len(models) == 1 else [table, _models_figure(models, album)])


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
        "What the models are and what their training took. Saved is what a training step keeps of one image for the "
        "backward pass, on average and at most over the draws of the iterations; small print is the share of the "
        "largest. The final loss is the mean over the last twentieth of the training.",
        [title for title, _ in columns],
        [Group([[write(one) for _, write in columns] for one in models])],
    )


def _models_figure(models: Sequence[Trained], album: Album) -> Figure:
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
    return album.figure(
        "models",
        Dots(panels, names),
        alt=f"Parameters, saved memory and training steps of {listing(names)}.",
        caption="Size, memory and training. Of the memory a dot is the mean over the draws of the iterations, and its "
        "line reaches to the most.",
    )


def _size_unit(models: Sequence[Trained]) -> Unit:
    return unit((one.parameters for one in models), "")


def _size_label(size: Unit) -> str:
    return f"parameters ({size.name})" if size.name else "parameters"


def _saved_unit(models: Sequence[Trained]) -> Unit:
    return unit((one.saved_bytes_max for one in models), "B")


def convergence_section(models: Sequence[Trained], album: Album) -> Section:
    """Residuals by timestep and iteration; empty if no model iterates."""
    iterating = [one for one in models if one.residuals]
    if not iterating:
        return Section("Convergence", [])
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
    figure = album.figure(
        "residuals",
        HeatMaps(maps, "timestep", "iteration", "relative change"),
        alt=f"Residual by timestep and iteration of {listing([one.model for one in iterating])}; after the last "
        f"iteration from {min(last):.1g} to {max(last):.1g}.",
        caption="How much an iteration still changes the fixed point's iterate, |z − z′| / |z|, by timestep (the "
        "noisiest at the top) and iteration, with one scale of colours for all models. A row that darkens quickly "
        "converges quickly; a small change says nothing of the quality of the images.",
    )
    return Section("Convergence", [figure])


def training_section(models: Sequence[Trained], names: Sequence[str], album: Album) -> Section:
    """Losses, of the models that have any; `names` are those of all models, so that each looks as elsewhere."""
    logged, checked = [one for one in models if one.losses], [one for one in models if one.validation]
    blocks: list[Block] = []
    if logged:
        macs = unit((one.losses[-1][1] for one in logged), "MACs")
        panels = [
            Panel("training steps", [_loss_curve(one, 0, 1.0) for one in logged]),
            Panel(f"training {macs.name}", [_loss_curve(one, 1, macs.factor) for one in logged]),
        ]
        figure = album.figure(
            "loss",
            Curves(panels, names, names, "training loss", logarithmic=True),
            alt=f"Training loss over steps and over multiply-accumulates; final: {_each(logged, _final_loss)}.",
            caption="Training loss over steps and over compute, smoothed, with the recorded values faintly behind. "
            "Losses of models with different weightings do not compare.",
        )
        blocks.append(figure)
    if checked:
        curves = [Curve(one.model, *map(list, zip(*sorted(one.validation), strict=True))) for one in checked]
        panel = Panel("timestep (larger is noisier)", curves, linear=True)
        figure = album.figure(
            "validation",
            Curves([panel], names, names, "validation loss", logarithmic=True),
            alt=f"Loss on validation images by timestep; mean: {_each(checked, _validation_loss)}.",
            caption="Loss of the averaged weights on validation images, by timestep.",
        )
        blocks.append(figure)
    return Section("Training", blocks)


def _loss_curve(one: Trained, column: int, factor: float) -> Curve:
    """The losses over steps (column 0) or compute (1), and their moving mean over a twenty-fifth of them."""
    values = np.array([loss for *_, loss in one.losses])  # (n,)
    window = np.ones(max(1, len(values) // 25))  # (w,)
    weight = np.convolve(np.ones(len(values)), window, "same")  # (n,), less at the ends
    smooth = np.convolve(values, window, "same") / weight  # (n,)
    chosen = slice(None, None, -(-len(values) // POINTS))
    x = [row[column] / factor for row in one.losses[chosen]]
    return Curve(one.model, x, smooth[chosen].tolist(), raw=values[chosen].tolist())


def settings_section(models: Sequence[Trained], comparison: dict[str, Any]) -> Section:
    """The settings in which models differ, then every setting of each, and `comparison`, those of comparing them."""
    flat = [{"run": one.run, **dict(_flattened(one.recipe))} for one in models]
    fields = [field for field in dict.fromkeys(field for settings in flat for field in settings) if field != "name"]
    differing = [field for field in fields if len({settings.get(field, MISSING) for settings in flat}) > 1]
    blocks: list[Block] = []
    if differing:
        rows = [[field, *(settings.get(field, MISSING) for settings in flat)] for field in differing]
        names = [shortened(one.model, 48) for one in models]
        caption = f"The {len(differing)} settings in which the models differ; {len(fields) - len(differing)} are alike."
        blocks.append(Table(caption, ["setting", *names], [Group(rows)], words=names))
    blocks += [Fold(f"Every setting of {one.model}", [_json(one.recipe)]) for one in models]
    if comparison:
        blocks.append(Fold("Every setting of the comparison", [_json(comparison)]))
    return Section("Settings", blocks)


def _json(values: dict[str, Any]) -> Code:
    return Code(json.dumps(values, indent=1, ensure_ascii=False))


def _flattened(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _each(models: Sequence[Trained], value: Callable[[Trained], float]) -> str:
    return listing([f"{one.model} {short(value(one))}" for one in models])


def _final_loss(one: Trained) -> float:
    last = one.losses[-max(1, len(one.losses) // 20) :]
    return fmean(loss for *_, loss in last) if last else math.nan


def _validation_loss(one: Trained) -> float:
    return fmean(loss for _, loss in one.validation) if one.validation else math.nan
