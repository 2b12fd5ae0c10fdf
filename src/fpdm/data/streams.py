"""Where the images of a cache come from: sources too large for memory, whose images are read a stretch at a time."""

from __future__ import annotations

import abc
import hashlib
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fpdm.data.config import DataConfig
from fpdm.data.decode import ENDINGS, escaped
from fpdm.data.folder import Skipped, scan
from fpdm.data.images import ImageSet
from fpdm.data.sources import DATASETS, SPLITS, class_names, load
from fpdm.randomness import Stream, generator

_HOLDOUT_SEED = 1797  # which images are held out is a function of it and their number alone


class Raw(NamedTuple):
    """An image that is not decoded yet.

    Attributes:
        name: What it is called where it is skipped.
        image: Its file, the content of that, or pixels (C, H, W) uint8.
        label: The source's number of its class; 0 where there are none.
    """

    name: str
    image: Path | bytes | np.ndarray
    label: int


class Part(abc.ABC):
    """A split's images, in an order that is always the same."""

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """Those from `start` to before `stop`, or to the end."""

    @abc.abstractmethod
    def count(self) -> int | None:
        """How many there are; None if only reading them shows it."""


@dataclass(frozen=True)
class Source:
    """Images, and what is known of them before one is read.

    Attributes:
        kind: "named", "folder", "tar" or "hub".
        parts: The splits that there are, by name.
        listing: SHA-256 of all that is known.
        classes: The classes' names in the order of the source's numbers; none if only numbers are known.
        labelled: Whether there are classes.
        fixed: Whether a class without images is one all the same.
        size: (H, W) of images that come as pixels; None for those that are brought to size.
        skipped: What is not even tried.
    """

    kind: str
    parts: Mapping[str, Part]
    listing: str
    classes: tuple[str, ...] = ()
    labelled: bool = True
    fixed: bool = True
    size: tuple[int, int] | None = None
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class HubSettings:
    """Which images of a hub data set.

    Attributes:
        split: Which of its splits, as the hub calls it.
        image_column: Where the images are (default: the only column of images).
        label_column: Where the classes are (default: "label", if there is one, or the only column of classes).
        streaming: Read it over the network, and keep no copy on this machine.
    """

    split: str = "train"
    image_column: str = ""
    label_column: str = ""
    streaming: bool = False


def open_source(config: DataConfig, *, hub: HubSettings, holdout: int = 0, root: Path | None = None) -> Source:
    """What a configuration names: a data set by name, a folder of images or of tar shards, or a hub data set.

    A folder is one of tar shards if a .tar lies in it, and a hub data set if a .parquet or .arrow does, however deep.

    Args:
        config: The images.
        hub: Which of a hub data set.
        holdout: Images to keep as the validation split, where the source has no splits of its own.
        root: Folder with the own files of a data set that comes by name.

    Raises:
        ValueError: There is nothing like that, or an option is for another kind of source.
    """
    if not config.is_folder:
        if holdout:
            raise ValueError(f"--holdout {holdout}: {config.source} has validation images of its own; leave it out")
        return _named(config.source, root)
    if root is not None:
        raise ValueError(f"--data-root {root} is for {', '.join(DATASETS)}, not for {config.source}")
    path = Path(config.source)
    if config.is_cache:
        raise ValueError(f"{path} is a cache of latents already; give the images")
    kind = _kind(path)
    if kind != "hub" and hub != HubSettings():
        raise ValueError(
            f"--split, --image-column, --label-column and --streaming are for hub data sets, not for {path}"
        )
    opened = {"tar": lambda: _tar(path), "folder": lambda: _folder(path), "hub": lambda: _hub(config.source, hub)}[
        kind
    ]()
    return _held_out(opened, holdout) if holdout else opened


def _kind(path: Path) -> str:
    if path.is_dir():
        if any(path.glob("*.tar")):
            return "tar"
        tables = (name for _, _, names in os.walk(path) for name in names if name.endswith((".parquet", ".arrow")))
        return "hub" if next(tables, None) else "folder"
    if path.suffix == ".tar" and path.exists():
        return "tar"
    on_hub = not path.exists() and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(path)) and not str(path).startswith(".")
    return "hub" if path.suffix in (".parquet", ".arrow") or on_hub else "folder"


# Data sets in memory


@dataclass(frozen=True, eq=False)
class _Pixels(Part):
    data: ImageSet

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """The pixels themselves."""
        images, labels = self.data.images[start:stop].numpy(), self.data.labels[start:stop].tolist()
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield Raw(str(start + i), image, label)

    def count(self) -> int:
        """How many there are."""
        return len(self.data)


def _named(name: str, root: Path | None) -> Source:
    sets = {split: load(name, split, root=root) for split in SPLITS}
    digest = hashlib.sha256()
    for part in sets.values():
        part.digest(digest)
    parts = {split: _Pixels(part) for split, part in sets.items()}
    _, height, width = sets["train"].shape
    return Source("named", parts, digest.hexdigest(), class_names(name), size=(height, width))


# Folders


@dataclass(frozen=True, eq=False)
class _Files(Part):
    root: Path
    paths: Sequence[Path]
    label_of: Mapping[str, int]

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """The files."""
        for path in self.paths[start:stop]:
            yield Raw(str(path), self.root / path, self.label_of[path.parts[0]] if self.label_of else 0)

    def count(self) -> int:
        """How many there are."""
        return len(self.paths)


def _folder(root: Path) -> Source:
    files = scan(root)
    digest = hashlib.sha256()
    for path in files.paths:
        try:
            size = os.stat(root / path).st_size
        except OSError:  # it has just vanished; that will show
            size = -1
        digest.update(f"{escaped(path)}\n{size}\n".encode())
    used = {path.parts[0] for path in files.paths} if files.classes else set()
    classes = tuple(name for name in files.classes if name in used)
    part = _Files(root, files.paths, {name: label for label, name in enumerate(classes)})
    shown = tuple(map(escaped, classes))
    return Source(
        "folder", {"train": part}, digest.hexdigest(), shown, labelled=bool(classes), fixed=False, skipped=files.skipped
    )


# Tar shards, in WebDataset's layout


class _Member(NamedTuple):
    """Where an image lies: which file, at which byte, how many."""

    tar: int
    start: int
    bytes: int
    name: str
    label: int


@dataclass(frozen=True, eq=False)
class _Tars(Part):
    tars: Sequence[Path]
    members: Sequence[_Member]

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """The contents; nothing is ever unpacked."""
        for number, group in itertools.groupby(self.members[start:stop], key=lambda member: member.tar):
            with self.tars[number].open("rb") as stream:
                for member in group:
                    stream.seek(member.start)
                    yield Raw(f"{self.tars[number].name}/{member.name}", stream.read(member.bytes), member.label)

    def count(self) -> int:
        """How many there are."""
        return len(self.members)


def _tar(path: Path) -> Source:
    """Files that follow each other and have the same name up to the first dot of its last part are a sample."""
    tars = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    members: list[_Member] = []
    skipped: list[Skipped] = []
    labelled: bool | None = None
    for number, tar in enumerate(tars):
        try:
            for key, image, label in _samples(tar):
                if labelled is None:
                    labelled = label is not None
                if labelled and label is None:
                    skipped.append(Skipped(Path(tar.name, key), "without a class, which the first image has"))
                else:
                    members.append(_Member(number, image.offset_data, image.size, image.name, label if labelled else 0))  # type: ignore[arg-type]
        except (OSError, tarfile.TarError) as error:
            skipped.append(Skipped(Path(tar.name), f"damaged, read up to there: {error}"))
    if not members:
        raise ValueError(
            f"the tar shards of {escaped(path)} hold no image ({len(tars)} files, {len(skipped)} skipped); expected "
            "files such as 0001.jpg with 0001.cls, as WebDataset lays them out"
        )
    digest = hashlib.sha256()
    for member in members:
        digest.update(f"{tars[member.tar].name} {member}\n".encode("utf-8", "backslashreplace"))
    parts = {"train": _Tars(tars, members)}
    return Source("tar", parts, digest.hexdigest(), labelled=bool(labelled), skipped=tuple(skipped))


def _samples(tar: Path) -> Iterator[tuple[str, tarfile.TarInfo, int | None]]:
    with tarfile.open(tar, "r:") as archive:
        for key, group in itertools.groupby(_regular(archive), key=_key):
            image: tarfile.TarInfo | None = None
            label: int | None = None
            for member in group:
                ending = member.name.rpartition(".")[2].lower()
                if f".{ending}" in ENDINGS:
                    image = image or member
                elif ending in ("cls", "json"):
                    label = _label(archive, member, ending, label)
            if image is not None:
                yield key, image, label


def _regular(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        archive.members = []  # type: ignore[misc]  # which else keeps all, millions of them
        if member.isreg() and not Path(member.name).name.startswith("."):
            yield member


def _key(member: tarfile.TarInfo) -> str:
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
    return value if isinstance(value, int) else known


# Data sets of the hub


class _Rows(Part):
    """Rows of a `datasets.Dataset`, or of an `IterableDataset`, in which reading goes on where it stopped."""

    def __init__(self, data: Any, image: str, label: str) -> None:
        self.data, self.image, self.label = data, image, label
        self._position, self._rows = 0, iter(())

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """The contents of the image files."""
        for place, row in zip(range(start, stop), self._from(start, stop), strict=False):
            value = row[self.image]
            if isinstance(value, Mapping):  # as an `Image(decode=False)` gives it
                value = value["bytes"] if value["bytes"] is not None else Path(value["path"])
            label = row[self.label] if self.label else 0
            yield Raw(f"row {place}", b"" if value is None else value, -1 if label is None else int(label))

    def _from(self, start: int, stop: int) -> Iterable[Mapping[str, Any]]:
        if self.count() is not None:
            return self.data.select(range(start, min(stop, len(self.data))))
        if start < self._position or not self._position:
            self._position, self._rows = 0, iter(self.data)
        for _ in itertools.islice(self._rows, start - self._position):
            pass
        self._position = stop
        return itertools.islice(self._rows, stop - start)

    def count(self) -> int | None:
        """Rows; not known of a stream."""
        return len(self.data) if hasattr(self.data, "__len__") else None


def _hub(source: str, settings: HubSettings) -> Source:
    try:
        import datasets  # heavy, and needed for this alone
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise ValueError(
            f"{source} is read by the library datasets, which is missing; pip install 'fpdm[hub]'"
        ) from None

    path = Path(source)
    try:
        if path.is_dir() and any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(source)
            data = saved[settings.split] if isinstance(saved, datasets.DatasetDict) else saved
            data = data.to_iterable_dataset() if settings.streaming else data
        else:
            builder, files = (path.suffix.lstrip("."), source) if path.is_file() else (source, None)
            options: dict[str, Any] = {"split": settings.split, "streaming": settings.streaming}
            data = datasets.load_dataset(builder, data_files=files, **options)
    except (OSError, ValueError, KeyError, RuntimeError, DatasetsError) as error:
        raise ValueError(
            f"{source} (split {settings.split}) is no folder of images, and datasets cannot load it: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    features = data.features or {}
    image = _column(features, settings.image_column, "image", datasets.Image, source)
    label = _column(features, settings.label_column, "label", datasets.ClassLabel, source)
    if not image:
        raise ValueError(
            f"{source} says of no column that it holds images, only {', '.join(features)}; give --image-column"
        )
    data = data.select_columns([image, *([label] if label else [])])
    if isinstance(features[image], datasets.Image):
        data = data.cast_column(image, datasets.Image(decode=False))
    names = getattr(features.get(label), "names", None) or ()
    rows = _Rows(data, image, label)
    known = [settings.split, image, label, list(names), rows.count(), getattr(data, "_fingerprint", "")]
    if settings.streaming:
        known[-1] = str(
            {name: (split.num_examples, split.num_bytes) for name, split in (data.info.splits or {}).items()}
        )
    listing = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    return Source("hub", {"train": rows}, listing, tuple(map(escaped, names)), labelled=bool(label))


def _column(features: Mapping[str, Any], given: str, usual: str, kind: type, source: str) -> str:
    """The column that was given, or the one with the usual name, or the only one of its kind; "" for none."""
    if given and given not in features:
        raise ValueError(f"{source} has no column {given!r}, but {', '.join(features)}")
    alike = [name for name, feature in features.items() if isinstance(feature, kind)]
    return given or (usual if usual in features else alike[0] if len(alike) == 1 else "")


# Images kept from training


@dataclass(frozen=True, eq=False)
class _Chosen(Part):
    """Some images of another part."""

    whole: Part
    places: np.ndarray  # (n,), ascending

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """Those chosen."""
        for first, last in _stretches(self.places[start:stop]):
            yield from self.whole.read(first, last)

    def count(self) -> int:
        """How many were chosen."""
        return len(self.places)


def _stretches(places: np.ndarray) -> Iterator[tuple[int, int]]:
    """Places (n,), ascending, as ranges from first to before last."""
    for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + 1


def _held_out(source: Source, holdout: int) -> Source:
    whole = source.parts["train"]
    n = whole.count()
    if n is None:
        raise ValueError(f"--holdout {holdout}: how many images a stream has is not known; leave out --streaming")
    if holdout >= n:
        raise ValueError(f"--holdout {holdout}: there are {n} images; expected fewer than that")
    # Raw words of the generator, because a NumPy of later years may shuffle in another way.
    draws = generator(_HOLDOUT_SEED, Stream.ORDER, index=0).bit_generator.random_raw(n)  # (n,)
    held = np.zeros(n, bool)
    held[np.argsort(draws, kind="stable")[:holdout]] = True
    parts = {"train": _Chosen(whole, np.flatnonzero(~held)), "validation": _Chosen(whole, np.flatnonzero(held))}
    return replace(source, parts=parts)
