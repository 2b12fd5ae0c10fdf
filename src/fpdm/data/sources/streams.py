"""Where the images of a cache come from: sources too large for memory, whose images are read a stretch at a time."""

from __future__ import annotations

import abc
import difflib
import hashlib
import itertools
import json
import os
import re
import sys
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fpdm.data.config import DATASETS, DataConfig, HubSettings
from fpdm.data.decode import ENDINGS, escaped
from fpdm.data.images import ImageSet
from fpdm.data.sources.folder import Skipped, scan
from fpdm.data.sources.named import class_names, load
from fpdm.data.splits import SPLITS
from fpdm.randomness import permutation

_HOLDOUT_SEED = 1797  # which images are held out is a function of it and their number alone
_TABLES = (".parquet", ".arrow")
_STRINGS = ("string", "large_string")
_SAVED = ("state.json", "dataset_dict.json")  # by `datasets.Dataset.save_to_disk`
# What is hashed at either end of a file to tell it from another of its name and size. Not the time of its last change,
# which is another in a copy or a checkout of the same files; nor the whole, which would read a large set twice.
_IMAGE_END, _TABLE_END = 2**12, 2**20


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

    def count(self) -> int | None:
        """Images in all parts; None if only reading them shows it."""
        counts = [part.count() for part in self.parts.values()]
        return None if None in counts else sum(count for count in counts if count)


def open_source(config: DataConfig, *, hub: HubSettings, holdout: int = 0, root: Path | None = None) -> Source:
    """What a configuration names: a data set by name, a folder of images or of tar shards, or a hub data set.

    A folder is one of tar shards if a .tar lies in it, and a hub data set if a .parquet or .arrow does, however deep;
    but images in class folders win over both, with a warning, and images without classes over the latter.

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
        return _kind_of_folder(path)
    if path.exists():
        return {".tar": "tar", **dict.fromkeys(_TABLES, "hub")}.get(path.suffix, "folder")
    if path.suffix in (".tar", *_TABLES):
        raise ValueError(f"there is no file {path}; expected tar shards, a .parquet or a .arrow, or a folder of them")
    near = difflib.get_close_matches(str(path), DATASETS, 1)
    if near and "/" not in str(path):  # before the hub is asked, which takes long where there is no network
        raise ValueError(
            f"there is no folder {path}; did you mean {near[0]}? A data set of the hub is given with its owner: "
            f"OWNER/{path}"
        )
    on_hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(path)) and not str(path).startswith(".")
    return "hub" if on_hub else "folder"


def _kind_of_folder(path: Path) -> str:
    if any((path / name).is_file() for name in _SAVED):
        return "hub"
    tar = next((one.name for one in path.glob("*.tar")), "")
    table = next((name for _, _, names in os.walk(path) for name in names if name.endswith(_TABLES)), "")
    if not tar and not table:
        return "folder"
    try:
        files = scan(path)
    except ValueError:  # no images
        return "tar" if tar else "hub"
    # A README or LICENSE, of no ending, may be an image among images, but makes none of a folder.
    if not any(one.suffix for one in files.paths) or (tar and not files.classes):
        return "tar" if tar else "hub"
    warnings.warn(
        f"{escaped(path)} is taken for a folder of images, for it has some; {escaped(tar or table)} is left out: move "
        "it elsewhere to prepare it",
        RuntimeWarning,
        stacklevel=4,
    )
    return "folder"


def _ends(stream: BinaryIO, start: int, size: int, end: int) -> bytes:
    """The first and the last bytes of a stretch of a file."""
    stream.seek(start)
    first = stream.read(min(size, end))
    stream.seek(start + max(size - end, 0))
    return first + stream.read(min(size, end))


def _add_file(digest: hashlib._Hash, root: Path, path: Path, end: int) -> None:
    """Add a file's name, size and ends."""
    try:
        with (root / path).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            ends = _ends(stream, 0, size, end)
    except OSError:  # it has just vanished, or must not be read; that will show
        size, ends = -1, b""
    digest.update(f"{escaped(path)}\n{size}\n".encode() + ends)


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
        _add_file(digest, root, path, _IMAGE_END)
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
    label: int | None


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
                    yield Raw(f"{self.tars[number].name}/{member.name}", stream.read(member.bytes), member.label or 0)

    def count(self) -> int:
        """How many there are."""
        return len(self.members)


def _tar(path: Path) -> Source:
    """Files that follow each other and have the same name up to the first dot of its last part are a sample."""
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
                digest.update(_ends(stream, member.start, member.bytes, _IMAGE_END))
    parts = {"train": _Tars(tars, members)}
    return Source("tar", parts, digest.hexdigest(), labelled=labelled, skipped=tuple(skipped))


def _samples(tar: Path) -> Iterator[tuple[tarfile.TarInfo, int | None]]:
    with tarfile.open(tar, "r:") as archive:
        for _, group in itertools.groupby(_regular(archive), key=_key):
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


def _regular(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        archive.members = []  # type: ignore[misc]  # which else keeps all, millions of them
        if member.isreg() and not Path(member.name).name.startswith("."):
            yield member
    # tarfile takes a damaged or missing header for the end, without a word.
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no header and no end of an archive at byte {archive.offset}")
    while block := stream.read(2**20):
        if any(block):
            raise tarfile.ReadError(f"more follows the end of an archive at byte {archive.offset}")


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
    return value if type(value) is int else known  # true and false are instances of int


# Data sets of the hub


class _Rows(Part):
    """Rows of a `datasets.Dataset`, or of an `IterableDataset`, in which reading goes on where it stopped."""

    def __init__(self, data: Any, image: str, label: str, names: Sequence[str]) -> None:
        self.data, self.image, self.label = data, image, label
        self.number_of: Mapping[Any, int] = {name: number for number, name in enumerate(names)}
        self._position, self._rows = 0, iter(())

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """The contents of the image files."""
        for place, row in zip(range(start, stop), self._from(start, stop), strict=False):
            value = row[self.image]
            if isinstance(value, Mapping):  # as an `Image(decode=False)` gives it
                value = value["bytes"] if value["bytes"] is not None else value["path"] and Path(value["path"])
            label = row[self.label] if self.label else 0
            # Classes come as their numbers, but those of strings as they are.
            yield Raw(f"row {place}", value or b"", -1 if label is None else self.number_of.get(label, label))

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
        raise ValueError(f"{source} is read by the library datasets, which is missing: pip install datasets") from None

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    path = Path(source)
    try:
        data, commit = _loaded(datasets, source, settings)
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
    names = _names(data, label, source) if label else ()
    rows = _Rows(data, image, label, names)
    digest = hashlib.sha256(json.dumps([settings.split, image, label, names, rows.count()]).encode())
    if path.exists():
        _add_tables(digest, path)
    else:
        digest.update(f"{source} {commit}".encode())
    return Source("hub", {"train": rows}, digest.hexdigest(), tuple(map(escaped, names)), labelled=bool(label))


def _loaded(datasets: Any, source: str, settings: HubSettings) -> tuple[Any, str]:
    """The rows, and for those of the hub of which commit they are."""
    path = Path(source)
    if path.is_dir() and any((path / name).is_file() for name in _SAVED):
        saved = datasets.load_from_disk(source)
        data = saved[settings.split] if isinstance(saved, datasets.DatasetDict) else saved
        return (data.to_iterable_dataset() if settings.streaming else data), ""
    builder, files = (path.suffix.lstrip("."), source) if path.is_file() else (source, None)
    made = datasets.load_dataset_builder(builder, data_files=files)
    if settings.streaming:
        return made.as_streaming_dataset(settings.split), made.hash
    made.download_and_prepare()
    return made.as_dataset(settings.split), made.hash


def _add_tables(digest: hashlib._Hash, path: Path) -> None:
    """Add a file, or those of a folder that say what rows there are."""
    root = path if path.is_dir() else path.parent
    for one in sorted(root.rglob("*")) if path.is_dir() else [path]:
        # What begins with "cache-" the library adds to a saved data set when it is used.
        if one.suffix in (*_TABLES, ".json") and one.is_file() and not one.name.startswith((".", "cache-")):
            _add_file(digest, root, one.relative_to(root), _TABLE_END)


def _names(data: Any, label: str, source: str) -> tuple[str, ...]:
    """The classes' names; none if only numbers are known. Strings are classes in their order."""
    feature = data.features[label]
    kind = getattr(feature, "dtype", "")
    if kind in _STRINGS and hasattr(data, "unique"):
        return tuple(sorted({*data.unique(label)} - {None}))
    if not re.fullmatch(r"u?int\d+", kind):
        raise ValueError(
            f"the column {label!r} of {source} is of type {kind or feature}; expected classes or integers (or strings, "
            "without --streaming); give another --label-column"
        )
    return tuple(getattr(feature, "names", None) or ())


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
    held = np.zeros(n, bool)
    held[permutation(n, seed=_HOLDOUT_SEED, index=0)[:holdout]] = True
    parts = {"train": _Chosen(whole, np.flatnonzero(~held)), "validation": _Chosen(whole, np.flatnonzero(held))}
    return replace(source, parts=parts)
