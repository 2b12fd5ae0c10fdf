"""The interface of image sources: images are read a range at a time, so that a set may be larger than memory."""

from __future__ import annotations

import abc
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TypeVar

import numpy as np

from fpdm.data.decode import Decoded, Decoder, escaped
from fpdm.files import sha256_of, write_atomically

_T = TypeVar("_T")
_HASHED = 2**10  # files that are hashed in threads before the next are begun
_BLOCK = 2**20  # bytes that are read at once
_AHEAD = 64  # images that are decoded ahead of the reader, and wait in memory
_HIGHEST = 2**63 - 1  # what a label is stored as


class Skipped(NamedTuple):
    """A file, folder or row that is not used. The path is relative to the source."""

    path: Path
    reason: str

    def to_text(self) -> str:
        """Return the path, escaped, and the reason, on one line."""
        return f"{escaped(self.path)}: {self.reason}"


class Raw(NamedTuple):
    """An image before it is decoded.

    Attributes:
        name: Its name in messages, relative to the source.
        image: Its file, the content of its file, or pixels (C, H, W) uint8.
        label: The source's number of its class; 0 if there are no classes.
    """

    name: str
    image: Path | bytes | np.ndarray
    label: int


class Part(abc.ABC):
    """The images of one split, always in the same order."""

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """Yield the images from `start` to before `stop`, or to the end."""

    @abc.abstractmethod
    def count(self) -> int | None:
        """Return the number of images, or None if it is known only once all are read."""

    def decode(
        self, start: int, stop: int, decoder: Decoder, pool: ThreadPoolExecutor, *, ahead: int = _AHEAD
    ) -> Iterator[tuple[Raw, Decoded | str]]:
        """Yield the images of a range in order, each with its pixels or with the reason why it cannot be used."""
        waiting: deque[tuple[Raw, Future[Decoded | str]]] = deque()
        for raw in self.read(start, stop):
            waiting.append((raw, pool.submit(decoder, raw.image)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for raw, future in waiting:
            yield raw, future.result()


@dataclass(frozen=True, eq=False)
class Chosen(Part):
    """Some of the images of another part."""

    whole: Part
    places: np.ndarray  # (n,), ascending

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        places = self.places[start:stop]
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            if len(run):
                yield from self.whole.read(int(run[0]), int(run[-1]) + 1)

    def count(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class Joined(Part):
    """The images of several parts of known sizes, one part after the other."""

    parts: Sequence[Part]

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        for part in self.parts:
            count = part.count() or 0
            if start < count and stop > 0:
                yield from part.read(max(start, 0), min(stop, count))
            start, stop = start - count, stop - count

    def count(self) -> int:
        return sum(part.count() or 0 for part in self.parts)


UNLABELLED = -1  # the label of an image without a class, as splits without labels have it on the hub
NO_CLASS = "without a class, which others have"  # why it is skipped


@dataclass(frozen=True)
class Source:
    """A set of images, and what is known of it before an image is decoded.

    Attributes:
        kind: What it is read from.
        name: Its name in results.
        parts: Its splits by name; "train" is always among them.
        listing: Fingerprint of the images, a SHA-256: of files their names relative to the source and their content, so
            that a copy elsewhere has the same one.
        classes: Class names in the order of the source's numbers; none if only numbers are known.
        labelled: Whether there are classes.
        numbered: Whether these numbers are the data's own, by which a user may name a class, and not our count.
        shape: (C, H, W) of images that come as pixels; None for those that are decoded and resized.
        skipped: What is passed over before decoding, and why.
    """

    kind: Literal["named", "folder", "tar", "hub"]
    name: str
    parts: Mapping[str, Part]
    listing: str
    classes: tuple[str, ...] = ()
    labelled: bool = True
    numbered: bool = False
    shape: tuple[int, int, int] | None = None
    skipped: tuple[Skipped, ...] = ()

    def count(self) -> int | None:
        """Return the number of images in all parts, or None if it is known only once all are read."""
        counts = [part.count() for part in self.parts.values()]
        return None if None in counts else sum(count for count in counts if count)

    def label_error(self, label: int) -> str:
        """Return why an image cannot have this label, or "" if it can."""
        if label == UNLABELLED:
            return NO_CLASS
        highest = len(self.classes) - 1 if self.classes else _HIGHEST
        return "" if 0 <= label <= highest else f"its label {label} is out of range; expected 0 to {highest}"

    def used_classes(self, counts: Mapping[int, int]) -> dict[int, str]:
        """Return the names of the classes by the source's numbers, in the order of the labels that they get.

        Only what some image has is a class: a model would learn nothing of any other, but would be asked for it.

        Args:
            counts: Images of each number that occurs.
        """
        numbers = sorted(counts) if self.labelled else []
        return {number: self.classes[number] if self.classes else str(number) for number in numbers}


def check_most_used(without: int, count: int, name: str, why: str, instead: str) -> None:
    """Check that most of the images of a set are used.

    Args:
        without: Number of those that would be left out.
        count: Number of all.
        name: The set's name in the message.
        why: Why they would be, such as "have no class".
        instead: What to do or what was expected: the end of the message.

    Raises:
        ValueError: Most would be left out.
    """
    if 2 * without > count:
        raise ValueError(f"{without} of the {count} images in {name} {why}, and would be left out; {instead}")


def check_most_readable(unreadable: int, count: int, name: str, one: str) -> None:
    """Check that most of the images of a set can be read; the others are skipped.

    Raises:
        ValueError: Most cannot; the message has one of them, with its reason.
    """
    check_most_used(unreadable, count, name, "cannot be used", f"repair or remove them; one is {one}")


def unusable(root: Path | str, skipped: Skipped) -> ValueError:
    """Return the error that `--strict` makes of what would be skipped."""
    return ValueError(
        f"{escaped(Path(root) / skipped.path)}: {skipped.reason}; repair it, remove it, or leave out --strict"
    )


def write_skipped(skipped: Iterable[Skipped], path: Path) -> None:
    """Write a `skipped.txt` in UTF-8: on each line the path, escaped, a tab and the reason."""
    write_atomically(path, "".join(f"{escaped(one.path)}\t{one.reason}\n" for one in skipped))


def sha256_of_each(items: Sequence[_T], sha256: Callable[[_T], str]) -> Iterator[str]:
    """Yield the SHA-256 of each item in order, computed in threads; "" where it cannot be read.

    All of a content is read, and not its ends and the time of its last change: an edit may keep both, and a copy does
    not keep the time. That is little next to decoding the same images.
    """

    def one(item: _T) -> str:
        try:
            return sha256(item)
        except (OSError, ValueError):  # it vanished or cannot be opened, which decoding will report
            return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _HASHED):
            yield from pool.map(one, items[start : start + _HASHED])


def hash_files(digest: hashlib._Hash, root: Path, paths: Sequence[Path]) -> None:
    """Add the names of files below `root`, and their content, to a fingerprint."""
    contents = sha256_of_each(paths, lambda path: sha256_of(root / path))
    for path, content in zip(paths, contents, strict=True):
        digest.update(f"{escaped(path)}\n{content}\n".encode())


def hash_range(digest: hashlib._Hash, stream: BinaryIO, start: int, size: int) -> None:
    """Add a range of a file to a fingerprint."""
    stream.seek(start)
    while size > 0 and (block := stream.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
