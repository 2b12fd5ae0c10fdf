"""Where pictures go: into the page, and into files beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from fpdm.drawing.images import strip
from fpdm.drawing.page import Block, Figure, Fold, Gallery, Strip
from fpdm.drawing.plots import Plot, render
from fpdm.drawing.sheets import Sheet, draw_sheet
from fpdm.drawing.text import shortened, slug

SHOWN = 3  # sheets; further ones are folded away
PIXELS = 2e6  # of all images in the page together, so that it stays small
LEAST, MOST = 72, 128  # pixels that an image takes on the page


class Album:
    """Draws pictures for a page, and keeps each as a PNG in a folder too.

    Args:
        folder: Which must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()

    def figure(self, name: str, plot: Plot, *, alt: str, caption: str) -> Figure:
        """A plot; its form for white paper is the one that is kept, under `name`."""
        picture = render(plot)
        picture.light.save(self._path(name))
        return Figure(picture, alt, caption)

    def sheets(self, sheets: Sequence[Sheet]) -> list[Block]:
        """Sheets of images, the later ones folded away; each is kept under the beginning of its title."""
        count = sum(sheet.columns * len(sheet.rows) for sheet in sheets)
        blocks: list[Block] = []
        for i, sheet in enumerate(sheets):
            name = f"samples-{sheet.title.split(':')[0]}" if len(sheets) > 1 else "samples"
            draw_sheet(sheet).save(self._path(name))
            height = sheet.rows[0].images.shape[2]
            side = max(8, int(min(max(height, 64), MOST, math.sqrt(PIXELS / count))))
            gallery = _gallery(sheet, side)
            blocks.append(gallery if i < SHOWN else Fold(sheet.title, [gallery]))
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
