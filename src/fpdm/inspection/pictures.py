"""Pictures of an inspection. Timesteps run downwards, the noisiest on top; iterations run to the right."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from fpdm.drawing.images import Png, enlarged, tile
from fpdm.drawing.plots import HeatMap, HeatMaps, Look, Plot
from fpdm.drawing.sheets import Row, Sheet, draw_sheet, rasterised
from fpdm.drawing.theme import LIGHT
from fpdm.evaluation.nearest import Nearest
from fpdm.inspection.measure import Sampling, Solves, spread

PREVIEWS, FILM, SOLVES = "x0-by-timestep.png", "x0.gif", "x0-by-iteration.png"
RESIDUALS, ALLOCATION, NEAREST = "residuals.png", "allocation.png", "nearest.png"
FILES = (PREVIEWS, FILM, SOLVES, RESIDUALS, ALLOCATION, NEAREST)
_FRAMES, _COLUMNS = 32, 12  # of the film; of a sheet


def previews(name: str, sampling: Sampling, captions: Sequence[str], rows: int) -> bytes:
    """Draw the predicted clean images: a row for each of some timesteps, a column for each image."""
    shown = len(captions[:_COLUMNS])
    picked = [
        Row(f"t = {sampling.timesteps[place]:g}", sampling.previews[place][:shown])
        for place in spread(len(sampling.timesteps), rows)
    ]
    title = f"{name}: predicted clean images x0 by timestep (downwards)"
    return draw_sheet(Sheet(title, [*picked, Row("sample", sampling.images[:shown])], _short(captions[:shown]))).data


def solves(name: str, found: Solves, caption: str, unit: str) -> bytes:
    """Draw the predictions of one image: a row for each of some timesteps, a column for each iteration or block."""
    columns = spread(len(found.iterations), _COLUMNS)
    rows = [
        Row(f"t = {timestep:g}", images[columns])
        for timestep, images in zip(found.timesteps, found.previews, strict=True)
    ]
    title = f"{name}, {caption}: x0 by timestep (downwards) and {unit} (to the right)"
    return draw_sheet(Sheet(title, rows, [str(found.iterations[column]) for column in columns])).data


def residuals(name: str, found: Solves, starts: str) -> bytes:
    """Draw the relative changes: timesteps downwards, iterations to the right, colours on a logarithmic scale."""
    drawn = HeatMap(
        f"{name}, {starts}; the plan stops at the white line",
        [f"{timestep:g}" for timestep in found.timesteps],
        [str(count) for count in found.iterations],
        found.residuals,
        found.spent,
    )
    return _plot(HeatMaps([drawn], "timestep", "iteration", "relative change of the iterate"))


def allocation(planned: Sampling, adaptive: Sampling, captions: Sequence[str]) -> bytes:
    """Draw the iterations by timestep (downwards) and image (to the right), as planned and as an adaptive one does."""
    maps = [
        HeatMap(
            f"{name}: {one.passes:.0f} passes",
            [f"{timestep:g}" for timestep in one.timesteps],
            [str(place) for place in range(len(captions))],
            one.iterations.tolist(),
        )
        for name, one in (("as planned", planned), ("adaptive", adaptive))
    ]
    return _plot(HeatMaps(maps, "timestep", "image", "iterations"))


def nearest(
    images: Tensor, training: Tensor, by_features: Nearest, by_pixels: Nearest, ratios: Sequence[float]
) -> bytes:
    """Draw images (N, C, H, W) uint8 above the nearest training images (M, C, H, W) uint8, `ratios` as headings."""
    shown = slice(min(len(images), _COLUMNS))
    rows = [
        Row("sample", images[shown]),
        Row("nearest in features", training[by_features.indices[shown]]),
        Row("nearest in pixels", training[by_pixels.indices[shown]]),
    ]
    title = "Nearest training images (1.00: as far away in features as that of an unseen image)"
    return draw_sheet(Sheet(title, rows, [f"{ratio:.2f}" for ratio in ratios[shown]])).data


def film(sampling: Sampling) -> bytes:
    """Make a GIF of the predicted clean images of at most 16 samples, from the noisiest timestep to the samples."""
    places = spread(len(sampling.timesteps), _FRAMES)
    frames = [_frame(sampling.previews[place][:16], f"t = {sampling.timesteps[place]:g}") for place in places] + [
        _frame(sampling.images[:16], "sample")
    ]
    buffer = io.BytesIO()
    durations = [120] * len(places) + [2000]  # ms
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _frame(images: Tensor, caption: str) -> Image.Image:
    grid = Image.fromarray(tile(enlarged(images), min(4, len(images)), gap=4))
    picture = Image.new("RGB", (grid.width, grid.height + 20), "white")
    picture.paste(grid, (0, 20))
    ImageDraw.Draw(picture).text((4, 4), caption, fill="black")
    return picture


def _plot(plot: Plot) -> bytes:
    image = rasterised(plot.draw(Look(LIGHT, wide=True)), 160)
    return Png.of(image, image.width).data


def _short(captions: Sequence[str]) -> list[str]:
    return [caption if len(caption) <= 11 else f"{caption[:10]}…" for caption in captions]
