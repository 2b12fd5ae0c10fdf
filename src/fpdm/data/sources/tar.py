"""Tar shards in the layout of WebDataset. Nothing is ever unpacked."""

from __future__ import annotations

import hashlib
import itertools
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fpdm.data.decode import ENDINGS, escaped
from fpdm.data.sources.source import IMAGE_END, Part, Raw, Skipped, Source, read_ends


class _Member(NamedTuple):
    """The place of an image: the number of its tar, the first byte, and how many bytes."""

    tar: int
    start: int
    bytes: int
    name: str
    label: int | None


@dataclass(frozen=True, eq=False)
class _Members(Part):
    tars: Sequence[Path]
    members: Sequence[_Member]

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        for number, group in itertools.groupby(self.members[start:stop], key=lambda member: member.tar):
            with self.tars[number].open("rb") as stream:
                for member in group:
                    stream.seek(member.start)
                    yield Raw(f"{self.tars[number].name}/{member.name}", stream.read(member.bytes), member.label or 0)

    def count(self) -> int:
        return len(self.members)


def open_tar(path: Path) -> Source:
    """Open a tar, or a folder of tars.

    Consecutive files whose names agree up to the first dot of their last part are a sample: an image, and its class as
    an integer in a .cls file or under "label" in a .json file.

    Raises:
        ValueError: There is no image.
    """
    tars = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    members: list[_Member] = []
    skipped: list[Skipped] = []
    for number, tar in enumerate(tars):
        try:
            for image, label in _samples(tar):
                members.append(_Member(number, image.offset_data, image.size, image.name, label))
        except (OSError, tarfile.TarError) as error:
            skipped.append(Skipped(Path(tar.name), f"damaged, read up to there: {error}"))
    labelled = any(member.label is not None for member in members)
    if labelled:
        without = [member for member in members if member.label is None]
        skipped += [
            Skipped(Path(tars[one.tar].name, one.name), "without a class, which others have") for one in without
        ]
        members = [member for member in members if member.label is not None]
    if not members:
        raise ValueError(
            f"the tar shards of {escaped(path)} hold no image ({len(tars)} files, {len(skipped)} skipped); expected "
            "files such as 0001.jpg with 0001.cls, as WebDataset lays them out"
        )
    digest = hashlib.sha256()
    for number, group in itertools.groupby(members, key=lambda member: member.tar):
        with tars[number].open("rb") as stream:
            for member in group:
                digest.update(f"{tars[number].name} {member}\n".encode("utf-8", "backslashreplace"))
                digest.update(read_ends(stream, member.start, member.bytes, IMAGE_END))
    return Source(
        kind="tar",
        name=escaped(path.resolve().name),
        parts={"train": _Members(tars, members)},
        listing=digest.hexdigest(),
        labelled=labelled,
        skipped=tuple(skipped),
    )


def _samples(tar: Path) -> Iterator[tuple[tarfile.TarInfo, int | None]]:
    with tarfile.open(tar, "r:") as archive:
        for _, group in itertools.groupby(_regular_files(archive), key=_sample_key):
            image: tarfile.TarInfo | None = None
            label: int | None = None
            for member in group:
                ending = member.name.rpartition(".")[2].lower()
                if f".{ending}" in ENDINGS:
                    image = image or member
                elif ending in ("cls", "json"):
                    label = _label(archive, member, ending, label)
            if image is not None:
                yield image, label


def _regular_files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        archive.members = []  # type: ignore[misc]  # it would keep them all, millions
        if member.isreg() and not Path(member.name).name.startswith("."):
            yield member
    # tarfile silently takes a damaged or missing header for the end.
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no header and no end of an archive at byte {archive.offset}")
    while block := stream.read(2**20):
        if any(block):
            raise tarfile.ReadError(f"more follows the end of an archive at byte {archive.offset}")


def _sample_key(member: tarfile.TarInfo) -> str:
    folder, slash, name = member.name.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str, known: int | None) -> int | None:
    stream = archive.extractfile(member)
    assert stream is not None  # a regular file
    text = stream.read(1 << 20).decode("utf-8", "replace")
    try:
        value = int(text) if ending == "cls" else json.loads(text).get("label")
    except (ValueError, AttributeError, RecursionError):
        return known
    return value if type(value) is int else known  # true and false are instances of int
