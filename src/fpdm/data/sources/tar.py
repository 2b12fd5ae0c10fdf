"""Tar shards in the layout of WebDataset. Nothing is ever unpacked."""

from __future__ import annotations

import hashlib
import itertools
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fpdm.data.decode import Decoder, escaped
from fpdm.data.sources.layout import check_labelled, layout
from fpdm.data.sources.samples import LABEL_ENDINGS, LONGEST_LABEL, File, Label, Sample, Unusable, samples
from fpdm.data.sources.source import NO_CLASS, Part, Raw, Skipped, Source, hash_range, sha256_of_each
from fpdm.data.splits import listed
from fpdm.errors import printable
from fpdm.files import open_regular

_MOST_HEADER = 2**20  # bytes that a long name or other attributes may take
_SHOWN = 4  # endings in a message


class _Member(NamedTuple):
    """The place of an image: the number of its tar, the first byte, and how many bytes; and its class in the data."""

    tar: int
    start: int
    bytes: int
    name: str
    label: int | str | None


@dataclass(frozen=True, eq=False)
class _Members(Part):
    tars: Sequence[Path]
    members: Sequence[_Member]
    numbers: Mapping[int | str | None, int]  # of classes that are words

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        for number, group in itertools.groupby(self.members[start:stop], key=lambda member: member.tar):
            with open_regular(self.tars[number]) as stream:
                for member in group:
                    stream.seek(member.start)
                    label = self.numbers.get(member.label, member.label or 0)
                    assert isinstance(label, int)
                    yield Raw(f"{self.tars[number].name}/{member.name}", stream.read(member.bytes), label)

    def count(self) -> int:
        return len(self.members)


class _Found:
    """The content of the tars of a source.

    Attributes:
        tars: Their paths.
        samples: The samples of all, each with the number of its tar.
        skipped: Images that are not used, and why.
        others: Number of files that are no images, by their endings.
    """

    def __init__(self, path: Path) -> None:
        self.tars = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        self.samples: list[tuple[int, Sample]] = []
        self.skipped: list[Skipped] = []
        self.others: Counter[str] = Counter()
        for number, tar in enumerate(self.tars):
            try:
                for one in samples(self._files(tar)):
                    if one.unused:
                        self.skip(number, one, one.unused)
                    else:
                        self.samples.append((number, one))
            except ValueError as refused:
                raise ValueError(f"{escaped(tar)}: {refused}") from refused

    def skip(self, tar: int, sample: Sample, reason: str) -> None:
        """Note that an image is not used."""
        self.skipped.append(Skipped(Path(self.tars[tar].name, sample.image.name), reason))

    def _files(self, tar: Path) -> Iterator[File]:
        """Yield the files of a tar, up to where it is damaged."""
        try:
            with open_regular(tar) as stream:
                for member in _members(stream):
                    file = File(member.name, member.offset_data, member.size)
                    if member.issparse():
                        self.skipped.append(Skipped(Path(tar.name, file.name), "a sparse file"))
                        continue
                    if file.ending in LABEL_ENDINGS:
                        stream.seek(file.start)
                        file = file._replace(content=stream.read(min(file.bytes, LONGEST_LABEL)))
                    if not file.is_image:
                        self.others[file.ending or "without an ending"] += 1
                    if file.is_image or file.ending in LABEL_ENDINGS:
                        yield file
        # What a header may hold makes the library raise nearly anything.
        except (OSError, tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            text = escaped(" ".join(str(error).split())) or type(error).__name__
            self.skipped.append(Skipped(Path(tar.name), f"damaged, read up to there: {text}"))


def open_tar(path: Path) -> Source:
    """Open a tar, or a folder of tars.

    `samples` says what is an image. Its class is the integer or the words in a .cls file, or under "label" in a .json
    file. If no image has either, it is in a .txt file, unless these are captions; and if there are none, the folders in
    the tars are the classes, as in a folder of images.

    Raises:
        ValueError: There is no image, its samples are not clear, or its labels are no classes.
    """
    found = _Found(path)
    labels = _labels(found, path)
    members: list[_Member] = []
    labelled = any(isinstance(label, int | str) for label in labels)
    for (tar, sample), label in zip(found.samples, labels, strict=True):
        if isinstance(label, Unusable):
            found.skip(tar, sample, label.reason)
        elif labelled and label is None:
            found.skip(tar, sample, NO_CLASS)
        else:
            image = sample.image
            members.append(_Member(tar, image.start, image.bytes, image.name, label))
    without = sum(label is None for label in labels) if labelled else 0
    check_labelled(without, len(labels), escaped(path))
    if not members:
        first = f"; the first: {found.skipped[0].to_text()}" if found.skipped else ""
        raise ValueError(
            f"the tar shards of {escaped(path)} hold no image ({len(found.tars)} files, {len(found.skipped)} skipped"
            f"{first}); expected files such as 0001.jpg with 0001.cls, as WebDataset lays them out"
        )
    names: list[str] = []
    numbers: dict[int | str | None, int] = {}
    classes = {member.label for member in members}
    if any(isinstance(label, str) for label in classes):  # then numbers are names too
        names = sorted({str(label) for label in classes})
        place = {name: number for number, name in enumerate(names)}
        numbers = {label: place[str(label)] for label in classes}
    groups = [[*group] for _, group in itertools.groupby(members, key=lambda member: member.tar)]
    contents = sha256_of_each(groups, lambda group: _sha256(found.tars[group[0].tar], group))
    return Source(
        kind="tar",
        name=escaped(path.resolve().name),
        parts={"train": _Members(found.tars, members, numbers)},
        listing=hashlib.sha256("".join(contents).encode()).hexdigest(),
        classes=tuple(map(printable, names)),
        labelled=labelled,
        skipped=tuple(found.skipped),
    )


def _sha256(tar: Path, members: Sequence[_Member]) -> str:
    """Return the SHA-256 of the names, places, labels and content of images in a shard."""
    digest = hashlib.sha256()
    with open_regular(tar) as stream:
        for member in members:
            digest.update(f"{tar.name} {member}\n".encode("utf-8", "backslashreplace"))
            hash_range(digest, stream, member.start, member.bytes)
    return digest.hexdigest()


def _labels(found: _Found, path: Path) -> list[Label]:
    """Return the class of each sample."""
    labels = [sample.label for _, sample in found.samples]
    if any(isinstance(label, int | str) for label in labels):
        return labels
    for (tar, sample), label in zip(found.samples, labels, strict=True):
        if isinstance(label, Unusable):
            name = escaped(f"{found.tars[tar].name}/{sample.image.name}")
            raise ValueError(f"the labels of {escaped(path)} are no classes: {name}: {label.reason}")
    texts = [sample.text for _, sample in found.samples]
    given = Counter(text for text in texts if text is not None)
    if given and 2 * len(given) <= given.total() and not any(isinstance(text, Unusable) for text in given):
        return texts
    folders = _folders(found, path)
    if given and folders is None:
        warnings.warn(
            f"the .txt files of {escaped(path)} are taken as captions and not as classes: {len(given)} texts for "
            f"{given.total()} images",
            RuntimeWarning,
            stacklevel=5,
        )
    elif found.others and folders is None:
        most = [f"{count} {ending}" for ending, count in found.others.most_common()]
        warnings.warn(
            f"no classes: the other files of {escaped(path)} ({listed(most, _SHOWN)}) say none; expected .cls, .txt, "
            'or .json with "label"',
            RuntimeWarning,
            stacklevel=5,
        )
    return labels if folders is None else folders


def _folders(found: _Found, path: Path) -> list[Label] | None:
    """Return the folder of each sample below what all share, if folders are classes."""
    parts = [tuple(one for one in sample.image.name.split("/") if one not in ("", ".")) for _, sample in found.samples]
    if not parts:
        return None
    shared = 0
    while len({one[shared] if len(one) > shared + 1 else None for one in parts}) == 1 and len(parts[0]) > shared + 1:
        shared += 1
    paths = [Path(*one[shared:]) for one in parts]
    # A folder for each shard, with the shard's number, is no class.
    stems = [found.tars[tar].stem for tar, _ in found.samples]
    if all(stem.isdecimal() and stem == one.parts[0] for stem, one in zip(stems, paths, strict=True)):
        return None
    place = dict(zip(paths, found.samples, strict=True))

    def error(of: Path) -> str:
        tar, sample = place[of]
        with open_regular(found.tars[tar]) as stream:
            stream.seek(sample.image.start)
            return decoder.error(stream.read(sample.image.bytes))

    decoder = Decoder(1)
    chosen = layout(paths, escaped(path), error)
    if not chosen.in_classes and not chosen.skipped:
        return None
    why = dict(chosen.skipped)
    if not chosen.in_classes:
        kept = [(one, sample) for one, sample in zip(paths, found.samples, strict=True) if one not in why]
        for one, (tar, sample) in zip(paths, found.samples, strict=True):
            if one in why:
                found.skip(tar, sample, why[one])
        found.samples = [sample for _, sample in kept]
        return [None for _ in kept]
    return [Unusable(why[one]) if one in why else one.parts[0] for one in paths]


def _members(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of a tar.

    Raises:
        tarfile.TarError: It is damaged, or is not what its headers say.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    with tarfile.open(fileobj=_Bounded(stream), mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            archive.members = []  # type: ignore[misc]  # it would keep them all, millions
            whole = member.isreg() and not member.issparse()
            if member.size < 0 or (whole and member.offset_data + member.size > size):
                raise tarfile.ReadError(f"{member.name} would have {member.size} bytes, more than there are")
            if member.isreg() and not Path(member.name).name.startswith("."):
                yield member
        # tarfile silently takes a damaged or missing header for the end.
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no header and no end of an archive at byte {archive.offset}")
        while block := stream.read(2**20):
            if any(block):
                raise tarfile.ReadError(f"more follows the end of an archive at byte {archive.offset}")


class _Bounded:
    """A file that refuses to read a header of absurd size, for which memory would be reserved."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int) -> bytes:
        """Read `size` bytes."""
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._read(size)
