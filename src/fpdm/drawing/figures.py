"""Figures of a page: drawn into the page, and kept as PNGs in a folder beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fpdm.drawing.images import strip
from fpdm.drawing.page import Block, Figure, Fold, Gallery, Strip
from fpdm.drawing.plots import Plot, render
from fpdm.drawing.sheets import Sheet, draw_sheet
from fpdm.drawing.text import shortened, slug

PIXELS = 1.5e6  # of all images in the page together, to keep it small
LEAST, MOST = 72, 128  # width of an image on the page, in pixels
T = TypeVar("T")


@dataclass(frozen=True)
class Drawing:
    """A plot with its words.

    Attributes:
        name: Name of its file.
        plot: The plot.
        alt: Description for readers who do not see it.
        caption: Text below it.
    """

    name: str
    plot: Plot
    alt: str
    caption: str


class FigureWriter:
    """Draws figures for a page and keeps each as a PNG too.

    Args:
        folder: An existing folder for the PNGs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()

    def draw(self, data: T, figures: Iterable[Callable[[T], Sequence[Drawing]]]) -> list[Block]:
        """Draw the plots that the functions `figures` make of `data`; the files hold the form for white paper."""
        blocks: list[Block] = []
        for drawing in (drawing for figure in figures for drawing in figure(data)):
            picture = render(drawing.plot)
            picture.light.save(self._path(drawing.name))
            blocks.append(Figure(picture, drawing.alt, drawing.caption))
        return blocks

    def strip(self, sheet: Sheet) -> Gallery:
        """Draw the sheet of images that stands at the top of a page, without a file of its own."""
        return _gallery(sheet, max(64, min(sheet.rows[0].images.shape[2], MOST)))

    def sheets(self, sheets: Sequence[Sheet]) -> list[Block]:
        """Draw sheets of images, each folded. A file is named after the title of its sheet up to a colon."""
        count = sum(sheet.columns * len(sheet.rows) for sheet in sheets)
        blocks: list[Block] = []
        for sheet in sheets:
            name = f"samples-{sheet.title.split(':')[0]}" if len(sheets) > 1 else "samples"
            draw_sheet(sheet).save(self._path(name))
            height = sheet.rows[0].images.shape[2]
            side = max(8, int(min(max(height, 64), MOST, math.sqrt(PIXELS / count))))
            blocks.append(Fold(sheet.title, [_gallery(sheet, side)]))
        return blocks

    def _path(self, name: str) -> Path:
        stem, number = slug(name), 2
        while stem in self._taken:
            stem, number = f"{slug(name)}-{number}", number + 1
        self._taken.add(stem)
        return self.folder / f"{stem}.png"


def _gallery(sheet: Sheet, side: int) -> Gallery:
    strips = []
    for row in sheet.rows:
        picture = strip(row.images, side, shown=max(side, LEAST))
        caption = "\n".join(shortened(line, 48) for line in row.caption.splitlines())
        strips.append(Strip(caption, picture, f"{len(row.images)} images: {' '.join(row.caption.split())}"))
    return Gallery(sheet.title, strips)
