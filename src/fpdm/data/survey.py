"""Look at a folder of images before anything is decided: how many, how large, grey or not, in which classes."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fpdm.data.decode import Decoder, decoders, escaped
from fpdm.data.folder_summary import Span
from fpdm.data.sources.folder import scan
from fpdm.data.sources.source import check_most_readable
from fpdm.data.splits import SPLITS, counted, listed

LOOKED_AT = 200  # images, spread over the folder
_SMALL = 32  # pixels at which colours are looked at
_COLOURLESS = 2  # largest difference of two channels of a grey image, which JPEG makes


@dataclass(frozen=True)
class Survey:
    """Content of a folder of images, by its listing and a look at some of the images.

    Attributes:
        folder: The folder.
        images: Number of files with an image's ending.
        looked_at: Number of images that were decoded.
        unreadable: Number of files that should have been and could not.
        side: The shorter sides of those images, in pixels.
        mixed: Whether they differ in size or are no squares, so that they are cropped.
        kept: Median share of an image that the square in its middle is.
        grey: Whether none of them has colours.
        transparent: Number of them with transparent pixels.
        classes: Number of images of each class that has any; empty for a flat folder.
        names: Names of these classes.
    """

    folder: Path
    images: int
    looked_at: int
    unreadable: int
    side: Span
    mixed: bool
    kept: float
    grey: bool
    transparent: int
    classes: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def learnable(self) -> bool:
        """Whether the classes can be learned: there are several, and each has an image for each split."""
        return len(self.classes) > 1 and min(self.classes) >= len(SPLITS)

    @property
    def small_classes(self) -> str:
        """The classes with too few images to be learned, in words; empty if there are none."""
        small = [name for name, images in zip(self.names, self.classes, strict=True) if images < len(SPLITS)]
        if not small:
            return ""
        left = len(self.names) - len(small)
        more = f"; move {'it' if len(small) == 1 else 'them'} elsewhere to learn the other {left}" if left > 1 else ""
        return f"{counted(len(small), 'class')} with fewer than {len(SPLITS)} images: {listed(small)}{more}"

    def to_text(self) -> str:
        """Describe the folder in one line."""
        side = self.side
        size = f"{side.least} pixels"
        if side.least != side.greatest:
            size = f"{side.least} to {side.greatest} pixels (median {side.median:g})"
        shape = " along their shorter sides" if self.mixed else ""
        colours = "grey" if self.grey else "in colour"
        seen = "all" if self.transparent == self.looked_at else "some"
        alpha = f", {seen} with transparency" if self.transparent else ""
        classes = counted(len(self.classes), "class") if self.classes else "no classes"
        return f"{counted(self.images, 'image')} of {size}{shape}, {colours}{alpha}, {classes}"


def survey(folder: Path | str) -> Survey:
    """Look at a folder of images: at its listing, and at some of the images.

    Raises:
        ValueError: The folder cannot be read, holds no images, none of those looked at can be read, or most of all
            cannot.
    """
    files = scan(folder)
    chosen = np.unique(np.linspace(0, len(files.paths) - 1, LOOKED_AT).round().astype(int)).tolist()
    decoder = Decoder(_SMALL)
    sizes: list[tuple[int, int]] = []
    grey, transparent, reason = True, 0, ""
    with decoders(None) as threads:
        paths = [files.root / files.paths[place] for place in chosen]
        for path, image in zip(paths, threads.map(decoder, paths), strict=True):
            if isinstance(image, str):
                reason = f"{path.name}: {image}"
                continue
            sizes.append((image.width, image.height))
            pixels = image.pixels.astype(np.int16)  # (3, H, W)
            grey = grey and int(np.abs(pixels - pixels[:1]).max()) <= _COLOURLESS
            transparent += _is_transparent(path)
    if not sizes:
        raise ValueError(f"no image in {files.root} can be read ({len(chosen)} tried); the last: {reason}")
    if len(chosen) == len(files.paths):  # of a larger folder `load_folder` counts all
        check_most_readable(len(chosen) - len(sizes), len(chosen), escaped(files.root), reason)
    sides = [min(size) for size in sizes]
    labels = files.labels()[[]] if not files.classes else files.labels()  # (N,)
    counts = Counter(labels.tolist())
    return Survey(
        folder=files.root,
        images=len(files.paths),
        looked_at=len(sizes),
        unreadable=len(chosen) - len(sizes),
        side=Span(min(sides), statistics.median(sides), max(sides)),
        mixed=len({*sizes}) > 1 or sizes[0][0] != sizes[0][1],
        kept=statistics.median(min(size) / max(size) for size in sizes),
        grey=grey,
        transparent=transparent,
        classes=tuple(counts[label] for label in sorted(counts)),
        names=files.listed_classes if counts else (),
    )


def _is_transparent(path: Path) -> bool:
    """Whether a file that has been decoded before has pixels that are not opaque."""
    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("ignore")
        if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
            return False
        image.draft(None, None)
        lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
        return bool(lowest < 255)  # type: ignore[operator]
