"""Sheets of images with captions, as one picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fpdm.drawing.images import Png, resized, tile
from fpdm.drawing.text import plain, shortened


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a caption and images (N, C, H, W) uint8."""

    caption: str
    images: Tensor


@dataclass(frozen=True)
class Sheet:
    """Rows of images, one below the other, with the same number in each.

    Attributes:
        title: Text above the rows.
        rows: The rows.
        headings: Text above each column; none for no headings.
    """

    title: str
    rows: Sequence[Row]
    headings: Sequence[str] = ()

    def __post_init__(self) -> None:
        assert len({len(row.images) for row in self.rows}) == 1

    @property
    def columns(self) -> int:
        """Number of images per row."""
        return len(self.rows[0].images)


def draw_sheet(sheet: Sheet) -> Png:
    """Draw a sheet as one picture, black on white, with images enlarged smoothly."""
    dpi, gap, left, top = 150, 4, 290, 100 if sheet.headings else 75
    side = max(8, min(1200 // sheet.columns - gap, 240))
    width, height = max(left + sheet.columns * (side + gap), 900), top + len(sheet.rows) * (side + gap)
    figure = Figure(figsize=(width / dpi, height / dpi))
    figure.text(0.5, 1 - 35 / height, plain(sheet.title), fontsize=11, ha="center", va="center")
    for column, heading in enumerate(sheet.headings):
        x = left + column * (side + gap) + side / 2
        figure.text(x / width, 1 - (top - 18) / height, plain(heading), fontsize=8.5, ha="center", va="center")
    tops = [top + i * (side + gap) for i in range(len(sheet.rows))]
    for y, row in zip(tops, sheet.rows, strict=True):
        caption = "\n".join(plain(shortened(line, 26)) for line in row.caption.splitlines())
        centre = 1 - (y + side / 2) / height
        figure.text((left - 15) / width, centre, caption, fontsize=8.5, ha="right", va="center")
    picture = rasterised(figure, dpi)
    for y, row in zip(tops, sheet.rows, strict=True):
        picture.paste(Image.fromarray(tile(resized(row.images, side), sheet.columns, gap=gap)), (left, y))
    return Png.of(picture, round(100 * width / dpi))


def rasterised(figure: Figure, dpi: int) -> Image.Image:
    """Rasterise a figure to RGB pixels."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that matplotlib's font lacks
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
