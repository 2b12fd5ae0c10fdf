"""Summary of a folder of images, for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fpdm.data.decode import escaped
from fpdm.data.sources.source import Skipped
from fpdm.data.splits import counted
from fpdm.errors import printable

_LISTED = 5  # skipped files that the summary names; classes twice as many


class ClassCount(NamedTuple):
    """A class and its number of images."""

    name: str
    images: int


class Span(NamedTuple):
    """The smallest, the median and the largest of some sizes in pixels."""

    least: int
    median: float
    greatest: int


@dataclass(frozen=True)
class FolderSummary:
    """Summary of the images that were read from a folder, and of those that were not.

    Attributes:
        folder: The folder.
        images: Number of images that were read.
        size: Height and width to which they were resized.
        channels: 3 (RGB) or 1 (grey).
        classes: The classes in the order of their labels; none if the folder is flat.
        empty: Names of class folders without a usable image; they do not count as classes.
        width: Widths of the images as they are seen (after EXIF rotation), before they were resized.
        height: Their heights, likewise.
        enlarged: Number of images whose shorter side was below `size`.
        skipped: What is not used and why, in the order of the paths.
        others: Number of files whose ending is not that of an image; they were ignored.
    """

    folder: Path
    images: int
    size: int
    channels: int
    classes: tuple[ClassCount, ...]
    empty: tuple[str, ...]
    width: Span
    height: Span
    enlarged: int
    skipped: tuple[Skipped, ...]
    others: int

    def to_text(self) -> str:
        """Return a few lines for the terminal; names are escaped, so that each stays on its line."""
        colours = "RGB" if self.channels == 3 else "grey"
        lines = [f"{escaped(self.folder)}: {counted(self.images, 'image')}, {self.size} x {self.size} {colours}"]
        if self.classes:
            shown = self.classes[: 2 * _LISTED]
            text = ", ".join(f"{printable(name)} ({images})" for name, images in shown)
            lines.append(f"  classes   {len(self.classes)}: {text}{_more(len(self.classes) - len(shown))}")
        else:
            lines.append("  classes   none")
        if self.empty:
            shown = self.empty[: 2 * _LISTED]
            text = f"{', '.join(map(escaped, shown))}{_more(len(self.empty) - len(shown))}"
            lines.append(
                f"  empty     {counted(len(self.empty), 'class folder')} without a usable image, left out: {text}"
            )
        for name, span in (("width", self.width), ("height", self.height)):
            lines.append(f"  {name:9} {span.least} to {span.greatest} pixels, median {span.median:g}")
        if self.enlarged:
            lines.append(f"  enlarged  {counted(self.enlarged, 'image')} with a side below {self.size} pixels")
        if self.others:
            lines.append(f"  others    {counted(self.others, 'file')} with an ending that is not an image's")
        if self.skipped:
            lines.append(f"  skipped   {len(self.skipped)}")
            lines += [f"    {skipped.to_text()}" for skipped in self.skipped[:_LISTED]]
            if len(self.skipped) > _LISTED:
                lines.append(f"   {_more(len(self.skipped) - _LISTED)}")
        return "\n".join(lines)


def _more(number: int) -> str:
    return f" and {number} more" if number else ""
