"""A user's own folder of images, in memory: for small sets, which fit there whole."""

from __future__ import annotations

import os
import stat
import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from fpdm.data.dataset import Examples
from fpdm.data.decode import ENDINGS, Decoder, decoders, escaped
from fpdm.data.images import ImageSet
from fpdm.data.splits import counted

E = TypeVar("E", bound=Examples)
_LISTED = 5  # skipped files that the summary names; classes twice as many


class Skipped(NamedTuple):
    """A file or folder that is not used. The path is relative to the image folder."""

    path: Path
    reason: str


class ClassCount(NamedTuple):
    """A class and how many images it has."""

    name: str
    images: int


class Span(NamedTuple):
    """The least, the median and the greatest of some sizes, in pixels."""

    least: int
    median: float
    greatest: int


@dataclass(frozen=True)
class FolderFiles:
    """What a folder holds by its files' names; none was opened.

    Attributes:
        root: The folder.
        paths: Files to be read as images, relative to `root`, in order.
        classes: Names of the class folders in order, those without images too; none if the folder is flat.
        skipped: What is not used and why, in order.
        others: How many files have an ending that is no image's; they are not looked at.
    """

    root: Path
    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    others: int


@dataclass(frozen=True)
class FolderSummary:
    """What was read from a folder, and what was not.

    Attributes:
        folder: The folder.
        images: How many images were read.
        size: Height and width that they were brought to.
        channels: 3 (RGB) or 1 (grey).
        classes: The classes in the order of their labels; none if the folder is flat.
        empty: Names of class folders without a usable image; they are no classes.
        width: Of the images as they are seen (after EXIF rotation), before they were resized.
        height: The same.
        enlarged: Images whose shorter side was below `size`.
        skipped: What is not used and why, in the order of the paths.
        others: How many files have an ending that is no image's; they were not looked at.
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
        """A few lines for the terminal; names are escaped, so that each stays on its line."""
        colours = "RGB" if self.channels == 3 else "grey"
        lines = [f"{escaped(self.folder)}: {counted(self.images, 'image')}, {self.size} x {self.size} {colours}"]
        if self.classes:
            shown = self.classes[: 2 * _LISTED]
            text = ", ".join(f"{label} {escaped(name)} ({images})" for label, (name, images) in enumerate(shown))
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
            lines.append(f"  others    {counted(self.others, 'file')} with an ending that is no image's")
        if self.skipped:
            lines.append(f"  skipped   {len(self.skipped)}")
            lines += [f"    {_line(skipped)}" for skipped in self.skipped[:_LISTED]]
            if len(self.skipped) > _LISTED:
                lines.append(f"    and {len(self.skipped) - _LISTED} more")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class LoadedFolder:
    """A folder's images, and what was found on the way."""

    data: ImageSet
    summary: FolderSummary


def scan(folder: Path | str) -> FolderFiles:
    """List the images of a folder without opening one.

    If an image lies in a sub-folder, the sub-folders are the classes, each with all that lies in it however deep;
    images beside them are skipped. Otherwise the folder is flat: images without classes. Hidden files and folders
    (a leading dot) are not looked at. Symbolic links are followed, but no folder is gone through twice, and a folder
    counts under its own name before it counts under a link's. What is no regular file is never opened.

    Raises:
        ValueError: The folder is missing, is none, cannot be read, or holds no file with an image's ending.
    """
    root = Path(folder)
    paths: list[Path] = []
    skipped: list[Skipped] = []
    classes: list[str] = []
    others = 0
    seen: set[tuple[int, int]] = set()
    folders, links = [Path()], deque[Path]()
    while folders or links:
        current = folders.pop() if folders else links.popleft()
        try:
            status = os.stat(root / current)
            if (status.st_dev, status.st_ino) in seen:
                skipped.append(Skipped(current, "a link to a folder that was gone through already"))
                continue
            with os.scandir(root / current) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except OSError as error:
            if current == Path():
                raise ValueError(
                    f"the image folder {escaped(root)} cannot be read: {error.strerror}; expected a folder of images"
                ) from error
            skipped.append(Skipped(current, f"a folder that cannot be read: {error.strerror}"))
            continue
        seen.add((status.st_dev, status.st_ino))
        if len(current.parts) == 1:
            classes.append(current.name)
        for path in [current / name for name in names]:
            try:
                mode = os.stat(root / path).st_mode
            except OSError as error:
                skipped.append(Skipped(path, f"leads nowhere: {error.strerror}"))
                continue
            if stat.S_ISDIR(mode):
                (links if (root / path).is_symlink() else folders).append(path)
            elif not stat.S_ISREG(mode):
                skipped.append(Skipped(path, "no regular file"))
            elif path.suffix.lower() in ENDINGS:
                paths.append(path)
            else:
                others += 1
    if not paths:
        raise ValueError(
            f"the image folder {escaped(root)} holds no images ({len(skipped)} skipped, "
            f"{counted(others, 'file')} with other endings); "
            "expected files such as .png, .jpg or .webp, or class folders of them"
        )
    if any(len(path.parts) > 1 for path in paths):
        skipped += [Skipped(path, "lies beside the class folders") for path in paths if len(path.parts) == 1]
        paths = [path for path in paths if len(path.parts) > 1]
    else:
        classes = []
    # By parts and not by the whole text, in which "a-b/1" comes before "a/1".
    paths.sort(key=lambda path: path.parts)
    skipped.sort(key=lambda one: one.path.parts)
    return FolderFiles(root, tuple(paths), tuple(sorted(classes)), tuple(skipped), others)


def load_folder(
    folder: Path | str,
    size: int,
    *,
    channels: int = 3,
    crop: str = "lanczos",
    background: tuple[int, int, int] = (255, 255, 255),
    workers: int | None = None,
    strict: bool = False,
    max_bytes: int = 4 * 2**30,
) -> LoadedFolder:
    """Read a folder of images into memory. For small sets: all pixels are held at once.

    Each image is turned as its EXIF data say, its first frame taken if it is animated, made RGB in 8 bits (16 bits are
    scaled, transparency is laid on the background, colour profiles are not applied), and brought to the square in its
    middle of `size` x `size` by the way that `crop` names. The result does not depend on `workers`.

    What cannot be read is skipped with a reason, and a class folder without a usable image is no class.

    Args:
        folder: The folder; see `scan` for what counts as an image and as a class.
        size: Height and width to bring the images to.
        channels: 3 for RGB, 1 for grey.
        crop: "lanczos" or "adm"; see `DataConfig`.
        background: RGB, 0..255, seen where an image is transparent.
        workers: Threads that decode; by default one for each core, 8 at most.
        strict: Raise at the first thing to skip, or at a class folder without a usable image.
        max_bytes: Refuse a set whose pixels would take more.

    Raises:
        ValueError: An argument out of range; a folder without a usable image; too many bytes; with `strict`, the first
            thing to skip, in the order of the paths, those first that cannot be opened at all.
    """
    decoder, threads = Decoder(size, channels, crop, background), decoders(workers)
    files = scan(folder)
    if strict and files.skipped:
        raise ValueError(_strict(files.root, files.skipped[0]))
    shape = (len(files.paths), channels, size, size)
    needed = len(files.paths) * channels * size * size
    if needed > max_bytes:
        raise ValueError(
            f"{counted(len(files.paths), 'image')} of {channels} x {size} x {size} would take {needed / 2**30:.3g} GiB "
            f"of memory; the limit is {max_bytes / 2**30:.3g} GiB; take fewer images or a smaller size"
        )
    pixels = np.empty(shape, dtype=np.uint8)  # (N, C, H, W)

    def read(place: int) -> tuple[int, int] | str:
        found = decoder(files.root / files.paths[place])
        if isinstance(found, str):
            return found
        pixels[place] = found.pixels  # (C, H, W)
        return found.width, found.height

    kept: list[int] = []
    sizes: list[tuple[int, int]] = []
    skipped = list(files.skipped)
    with threads as pool:
        for place, result in enumerate(pool.map(read, range(len(files.paths)))):
            if not isinstance(result, str):
                kept.append(place)
                sizes.append(result)
                continue
            skipped.append(Skipped(files.paths[place], result))
            if strict:
                raise ValueError(_strict(files.root, skipped[-1]))
    skipped.sort(key=lambda one: one.path.parts)
    if not kept:
        first = next(one for one in skipped if one.path == files.paths[0])
        raise ValueError(
            f"no image in {escaped(files.root)} can be read ({len(files.paths)} tried); the first: {_line(first)}"
        )
    for place, source in enumerate(kept):  # close the gaps in place, not to hold the pixels twice
        if place != source:
            pixels[place] = pixels[source]  # (C, H, W)

    counts = Counter(files.paths[place].parts[0] for place in kept) if files.classes else Counter[str]()
    empty = tuple(name for name in files.classes if not counts[name])
    if strict and empty:
        raise ValueError(f"the class folder {escaped(files.root / empty[0])} has no image; fill it or take it away")
    classes = [name for name in files.classes if counts[name]]
    label_of = {name: label for label, name in enumerate(classes)}
    labels = [label_of[files.paths[place].parts[0]] if classes else 0 for place in kept]
    widths, heights = zip(*sizes, strict=True)
    data = ImageSet(
        escaped(files.root.resolve().name),
        torch.from_numpy(pixels[: len(kept)]),  # (N, C, H, W)
        torch.tensor(labels, dtype=torch.int64),  # (N,)
        len(classes),
    )
    summary = FolderSummary(
        folder=files.root,
        images=len(kept),
        size=size,
        channels=channels,
        classes=tuple(ClassCount(name, counts[name]) for name in classes),
        empty=empty,
        width=Span(min(widths), statistics.median(widths), max(widths)),
        height=Span(min(heights), statistics.median(heights), max(heights)),
        enlarged=sum(min(one) < size for one in sizes),
        skipped=tuple(skipped),
        others=files.others,
    )
    return LoadedFolder(data, summary)


def read_images(
    files: FolderFiles,
    places: Sequence[int],
    size: int,
    *,
    channels: int = 3,
    crop: str = "lanczos",
    background: tuple[int, int, int] = (255, 255, 255),
    workers: int | None = None,
) -> list[np.ndarray | Skipped]:
    """Read some of a folder's images, as `load_folder` reads all: each (C, H, W) uint8, or why it cannot be read.

    Args:
        files: The folder.
        places: Which of `files.paths`.
        size: Height and width to bring the images to.
        channels: 3 for RGB, 1 for grey.
        crop: "lanczos" or "adm"; see `DataConfig`.
        background: RGB, 0..255, seen where an image is transparent.
        workers: Threads that decode; by default one for each core, 8 at most.

    Raises:
        ValueError: An argument out of range.
    """
    decoder = Decoder(size, channels, crop, background)

    def read(place: int) -> np.ndarray | Skipped:
        found = decoder(files.root / files.paths[place])
        return Skipped(files.paths[place], found) if isinstance(found, str) else found.pixels

    with decoders(workers) as pool:
        return list(pool.map(read, places))


def write_skipped(summary: FolderSummary, path: Path | str) -> None:
    """Write what was skipped to a file in UTF-8, one a line: the path, escaped, a tab, the reason."""
    lines = [f"{escaped(one.path)}\t{one.reason}\n" for one in summary.skipped]
    Path(path).write_text("".join(lines), encoding="utf-8", newline="\n")


def _strict(root: Path, skipped: Skipped) -> str:
    return f"{escaped(root / skipped.path)}: {skipped.reason}; mend it, take it away, or allow that it is skipped"


def _line(skipped: Skipped) -> str:
    return f"{escaped(skipped.path)}: {skipped.reason}"


def _more(number: int) -> str:
    return f" and {number} more" if number else ""
