"""A folder of image files: which of them are images, their classes, their splits, and a fingerprint."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpdm.data.decode import ENDINGS, Decoder, escaped
from fpdm.data.sources.layout import layout
from fpdm.data.sources.source import Chosen, Part, Raw, Skipped, Source, hash_files, unusable
from fpdm.data.splits import counted, divided
from fpdm.errors import printable

# What macOS, network storage and Windows put beside images: copies of their names, thumbnails, deleted files.
_LITTER = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}

_LABELS = re.compile(r"(labels?|classes|metadata|annotations?|dataset)\.(csv|tsv|txt|jsonl?)|.*\.cls", re.IGNORECASE)


class NoImagesError(ValueError):
    """Raised for a folder without images, which may be something else."""


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder, by their names.

    The split of a folder into train, validation and test is a function of this listing; see `divided`. A file that
    turns out not to be an image is then missing from its split, and no other file changes splits.

    Attributes:
        root: The folder.
        paths: Files to be read as images, relative to `root`, in order.
        classes: Names of the class folders in order, including those without images; none if the folder is flat.
        skipped: What is not used and why, in order.
        others: Number of files whose ending is not that of an image; they are ignored.
        labels_file: Name of one of them beside the images that may have their labels, which are not read.
    """

    root: Path
    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    others: int
    labels_file: str = ""

    @functools.cached_property
    def listed_classes(self) -> tuple[str, ...]:
        """Names of the class folders that hold a file to be read, in order."""
        used = {path.parts[0] for path in self.paths} if self.classes else set()
        return tuple(name for name in self.classes if name in used)

    def labels(self) -> np.ndarray:
        """Return the number of each path's class among `listed_classes`, (N,) int64; all 0 if the folder is flat."""
        number = {name: label for label, name in enumerate(self.listed_classes)}
        return np.array([number[path.parts[0]] if number else 0 for path in self.paths], np.int64)  # (N,)

    def splits(self) -> dict[str, list[int]]:
        """Return which of the paths belong to train, validation and test."""
        return divided(self.labels())

    def fingerprint(self) -> str:
        """Return a SHA-256 of the files' names relative to the root, and their content."""
        digest = hashlib.sha256()
        hash_files(digest, self.root, self.paths)
        return digest.hexdigest()

    def warn_of_labels(self) -> None:
        """Warn of labels in a file, which a user of other programs may take for the classes."""
        if self.labels_file and not self.classes:
            warnings.warn(
                f"no classes: the labels in {escaped(self.root / self.labels_file)} are not read; put the images of "
                "each class into a folder of its own",
                RuntimeWarning,
                stacklevel=4,
            )

    def images(self) -> Part:
        """Return the images of all paths, in order."""
        return _Files(self.root, self.paths, self.labels().tolist())

    def require_complete(self) -> None:
        """Raise a `ValueError` if anything is skipped, or if a class folder has no image."""
        if self.skipped:
            raise unusable(self.root, self.skipped[0])
        empty = [name for name in self.classes if name not in self.listed_classes]
        if empty:
            raise ValueError(
                f"the class folder {escaped(self.root / empty[0])} has no image; add some, remove it, or leave out "
                "--strict"
            )


@dataclass(frozen=True, eq=False)
class _Files(Part):
    root: Path
    paths: Sequence[Path]
    labels: Sequence[int]

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        for path, label in zip(self.paths[start:stop], self.labels[start:stop], strict=True):
            yield Raw(str(path), self.root / path, label)

    def count(self) -> int:
        return len(self.paths)


def open_folder(root: Path | str, *, whole: bool = False, strict: bool = False, classes: bool = True) -> Source:
    """Open a folder of images.

    Args:
        root: The folder; see `scan` for what counts as an image and as a class.
        whole: Put all images into the train split, instead of dividing them; see `FolderFiles`.
        strict: Raise if anything is skipped by its name, or a class folder has no image.
        classes: Whether classes are asked for, so that labels which are not read are worth a warning.

    Raises:
        ValueError: There are no images, or, with `strict`, something would be skipped.
    """
    files = scan(root)
    if classes:
        files.warn_of_labels()
    if strict:
        files.require_complete()
    images = files.images()
    parts = {split: Chosen(images, np.array(places, np.int64)) for split, places in files.splits().items()}
    return Source(
        kind="folder",
        name=escaped(files.root.resolve().name),
        parts={"train": images} if whole else parts,
        listing=files.fingerprint(),
        classes=tuple(map(printable, files.listed_classes)),
        labelled=bool(files.classes),
        skipped=files.skipped,
    )


def scan(folder: Path | str) -> FolderFiles:
    """List the images of a folder. No file is opened, unless images lie both in the folder and in sub-folders.

    If images lie in sub-folders, these are the classes, each with all that lies in it however deep. Otherwise the
    folder is flat: images without classes. Where images lie in both, see `layout`. Hidden files and folders
    (with a leading dot) are ignored, and so are those that systems make themselves. Symbolic links are followed, but no
    folder is entered twice, and a folder counts under its own name before it counts under that of a link. Only regular
    files are opened.

    Raises:
        ValueError: The folder is missing, is not a folder, cannot be read, or its layout is not clear.
        NoImagesError: It holds no file with an image's ending.
    """
    root = Path(folder)
    paths: list[Path] = []
    skipped: list[Skipped] = []
    classes: list[str] = []
    others = 0
    other = ""  # the name of one of them that another reader takes
    labels_file = ""
    seen: set[tuple[int, int]] = set()
    folders, links = [Path()], deque[Path]()
    while folders or links:
        current = folders.pop() if folders else links.popleft()
        try:
            status = os.stat(root / current)
            if (status.st_dev, status.st_ino) in seen:
                skipped.append(Skipped(current, "a link to a folder that was read already"))
                continue
            with os.scandir(root / current) as entries:
                found = (entry.name for entry in entries)
                names = sorted(name for name in found if not name.startswith(".") and name not in _LITTER)
        except OSError as error:
            if current == Path():
                raise ValueError(
                    f"the image folder {escaped(root)} cannot be read: {error.strerror}; "
                    + ((root.exists() and _other_reader(root.name)) or "expected a folder of images")
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
                skipped.append(Skipped(path, "not a regular file"))
            elif path.suffix.lower() in ENDINGS:
                paths.append(path)
            else:
                others += 1
                other = path.name if _other_reader(path.name) else other
                labels_file = path.name if current == Path() and _LABELS.fullmatch(path.name) else labels_file
    if not paths:
        raise NoImagesError(
            f"the image folder {escaped(root)} holds no images ({len(skipped)} skipped, "
            f"{counted(others, 'file')} with other endings); "
            + (_other_reader(other) or "expected files such as .png, .jpg or .webp, or class folders of them")
        )
    # By parts and not by the whole text, in which "a-b/1" comes before "a/1".
    paths.sort(key=lambda path: path.parts)
    decoder = Decoder(1)
    kept, in_classes, left = layout(paths, escaped(root), lambda path: decoder.error(root / path))
    skipped = sorted([*skipped, *left], key=lambda one: one.path.parts)
    return FolderFiles(
        root, tuple(kept), tuple(sorted(classes)) if in_classes else (), tuple(skipped), others, labels_file
    )


_ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")


def _other_reader(name: str) -> str:
    """Say what to do with a file that is no image; empty where nothing is known."""
    if name.lower().endswith((".tar", ".parquet", ".arrow")):
        return "give it to fpdm prepare, which reads tar shards, .parquet and .arrow"
    return "unpack it into a folder, or make it a .tar for fpdm prepare" if name.lower().endswith(_ARCHIVES) else ""
