"""The files of an archive as samples: an image each, and its class. The layout is that of WebDataset.

A file's name is a base, up to the first dot of its last part, and what follows. A sample has an image BASE.png and its
class in BASE.cls, BASE.json or BASE.txt. Names with more dots, which cameras and people give, are understood too:
photo.0001.png and photo.0002.png are two samples, but 0001.png and 0001.mask.png are one, of the former.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fpdm.configuration import parse_json
from fpdm.data.decode import ENDINGS, escaped

_CLASS_ENDINGS = (".cls", ".class", ".label")
LABEL_ENDINGS = (*_CLASS_ENDINGS, ".json", ".txt")
LONGEST_LABEL = 2**20  # bytes of a .json that are read
_LONGEST_CLASS = 100  # characters
_MOST_BYTES = 2**30  # of an image
_INTEGER = re.compile(r"([+-]?\d{1,30})(\.0*)?", re.ASCII)


class Unusable(NamedTuple):
    """The reason why a label is no class."""

    reason: str


Label = int | str | Unusable | None


class File(NamedTuple):
    """A file in an archive: its name, its first byte, how many bytes, and, of labels only, these."""

    name: str
    start: int
    bytes: int
    content: bytes = b""

    @property
    def ending(self) -> str:
        """The ending with its dot, in lower case; empty if there is none."""
        _, dot, ending = self.name.rpartition("/")[2].rpartition(".")
        return f"{dot}{ending}".lower()

    @property
    def is_image(self) -> bool:
        """Whether the ending is that of an image."""
        return bool(self.ending) and self.ending in ENDINGS

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self.name[: len(self.name) - len(self.ending)]

    @property
    def base(self) -> str:
        """The name up to the first dot of its last part."""
        folder, slash, name = self.name.rpartition("/")
        return f"{folder}{slash}{name.partition('.')[0]}"


class Sample(NamedTuple):
    """An image and what its neighbours say of its class.

    Attributes:
        image: The image.
        label: Its class by a file of classes or by a JSON file.
        text: The content of its .txt file, which may be a class or a caption.
        unused: Why the image is not used; empty if it is.
    """

    image: File
    label: Label = None
    text: Label = None
    unused: str = ""


@dataclass
class _Group:
    images: list[File] = field(default_factory=list)
    labels: dict[str, Label] = field(default_factory=dict)
    texts: dict[str, Label] = field(default_factory=dict)

    def add(self, file: File) -> None:
        if file.is_image:
            self.images.append(file)
        elif file.ending == ".txt":
            self.texts[file.stem] = as_class(file.content)
        elif file.ending in _CLASS_ENDINGS:
            self.labels[file.stem] = _first(as_class(file.content), self.labels.get(file.stem))
        elif file.ending == ".json":
            self.labels[file.stem] = _first(self.labels.get(file.stem), _in_json(file.content))


def samples(files: Iterable[File]) -> Iterator[Sample]:
    """Yield the samples among the files of an archive, in the order of their images.

    A name that occurs again begins a new set of samples, as in archives that were joined.

    Raises:
        ValueError: Samples have several images, none of which has the sample's own name.
    """
    groups: dict[str, _Group] = {}
    seen: set[str] = set()
    for file in files:
        if file.name in seen:
            yield from _grouped(groups)
            groups, seen = {}, set()
        seen.add(file.name)
        groups.setdefault(file.base, _Group()).add(file)  # which keeps no content
    yield from _grouped(groups)


def _grouped(groups: dict[str, _Group]) -> Iterator[Sample]:
    several = {base for base, group in groups.items() if len(group.images) > 1 and not _own(base, group)}
    suffixes = {image.stem[len(base) :] for base in several for image in groups[base].images}
    # Where the same few words recur, or have no number, they say what an image is, and not which.
    kinds = len(suffixes) <= len(several) or not all(re.search(r"\d", suffix) for suffix in suffixes)
    for base, group in groups.items():
        if base in several and kinds:
            first, second = (escaped(image.name.rpartition("/")[2]) for image in group.images[:2])
            raise ValueError(
                f"the sample {escaped(base)} has {len(group.images)} images ({first}, {second}); name the one to use "
                f"{escaped(base.rpartition('/')[2])}{group.images[0].ending}"
            )
        used = group.images if base in several else _own(base, group)[:1] or group.images[:1]
        for image in group.images:
            keys = [image.stem] if base in several else [image.stem, base]
            label, text = (_first(*map(found.get, keys)) for found in (group.labels, group.texts))
            unused = "" if image in used else f"a second image of the sample {escaped(base)}"
            if image.bytes > _MOST_BYTES:
                unused = f"{image.bytes} bytes; expected at most {_MOST_BYTES}"
            yield Sample(image, label, text, unused)


def _own(base: str, group: _Group) -> list[File]:
    """Return the images that have the sample's own name."""
    return [image for image in group.images if image.stem == base]


def _first(*labels: Label) -> Label:
    return next((label for label in labels if label is not None), None)


def as_class(content: bytes) -> Label:
    """Return the class in a text file: a whole number (also as 3.0) or words; None if it is empty."""
    words = content.decode("utf-8-sig", "backslashreplace").strip()
    if number := _INTEGER.fullmatch(words):
        return int(number[1])
    if len(words) > _LONGEST_CLASS or "\n" in words:
        return Unusable("its class is a long text; expected a number or a name")
    return words or None


def _in_json(content: bytes) -> Label:
    """Return the class under "label" in a JSON file; None if there is none, or the file is no JSON."""
    try:
        found = parse_json(content.decode("utf-8-sig"), "it")
    except ValueError:
        return None
    value = found.get("label") if isinstance(found, dict) else None
    if isinstance(value, dict | list):
        return Unusable(f"its label is {'an object' if isinstance(value, dict) else 'an array'}; expected one class")
    if isinstance(value, bool):
        return json.dumps(value)
    return None if value is None else as_class(str(value).encode())
