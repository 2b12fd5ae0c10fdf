"""Data sets of the Hugging Face hub, and tables on disk, read with the library datasets."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fpdm.data.config import HubSettings
from fpdm.data.decode import escaped
from fpdm.data.sources.layout import check_labelled
from fpdm.data.sources.source import UNLABELLED, Part, Raw, Source, hash_files
from fpdm.data.splits import listed
from fpdm.errors import printable

TABLES = (".parquet", ".arrow")
SAVED = ("state.json", "dataset_dict.json")  # by `datasets.Dataset.save_to_disk`
_STRINGS = ("string", "large_string")


class _Rows(Part):
    """Rows of a `datasets.Dataset`, or of an `IterableDataset`, which is read on from where it stopped if possible."""

    def __init__(self, data: Any, image: str, label: str, names: Sequence[str], source: str) -> None:
        self.data, self.image, self.label, self.source = data, image, label, source
        self.number_of: Mapping[Any, int] = {name: number for number, name in enumerate(names)}
        self._position, self._rows = 0, iter(())

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        rows = iter(self._from(start, stop))
        for place in range(start, stop):
            with _reading(f"row {place} of {self.source} cannot be read"):
                row = next(rows, None)
            if row is None:
                return
            value = row[self.image]
            if isinstance(value, Mapping):  # as an `Image(decode=False)` gives it
                value = value["bytes"] if value["bytes"] is not None else value["path"] and Path(value["path"])
            label = row[self.label] if self.label else 0
            # Classes come as their numbers, but classes that are strings as these.
            yield Raw(f"row {place}", value or b"", UNLABELLED if label is None else self.number_of.get(label, label))

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
        return len(self.data) if hasattr(self.data, "__len__") else None


def open_hub(source: str, settings: HubSettings) -> Source:
    """Open a data set by its name on the hub, a folder that `datasets` saved, or a .parquet or .arrow file.

    Raises:
        ValueError: The library is missing, it cannot load the data set, or a column is missing or of the wrong type.
    """
    try:
        import datasets  # slow to import, and needed here only
    except ImportError:
        raise ValueError(
            f"{source} is read by the library datasets, which is not installed: pip install datasets"
        ) from None

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it logs before it raises is in our message
    path = Path(source)
    failed = f"{source} (split {settings.split}) is not a folder of images, and datasets cannot load it"
    with _reading(failed):
        data, commit = _loaded(datasets, source, settings)
        features = data.features or {}
    image = _column(features, settings.image_column, "image", datasets.Image, source)
    label = _column(features, settings.label_column, "label", datasets.ClassLabel, source)
    if not image:
        raise ValueError(f"{source} has no column of images among {', '.join(features)}; give --image-column")
    others = [name for name in features if name != image]
    if others and not label:
        warnings.warn(
            f"no classes: {source} has no column 'label', and none of {listed(others)} was given as --label-column",
            RuntimeWarning,
            stacklevel=4,
        )
    with _reading(failed):
        data = data.select_columns([image, *([label] if label else [])])
        if isinstance(features[image], datasets.Image):
            data = data.cast_column(image, datasets.Image(decode=False))
    names = _names(data, label, source) if label else ()
    if label and hasattr(data, "__len__"):
        with _reading(failed):
            without = sum(value in (None, UNLABELLED) for value in data[label])
        check_labelled(without, len(data), escaped(source))
    rows = _Rows(data, image, label, names, source)
    digest = hashlib.sha256(json.dumps([settings.split, image, label, names, rows.count()]).encode())
    if path.exists():
        _add_tables(digest, path)
    else:
        digest.update(f"{source} {commit}".encode())
    return Source(
        kind="hub",
        name=escaped(path.name),
        parts={"train": rows},
        listing=digest.hexdigest(),
        classes=tuple(map(printable, names)),
        labelled=bool(label),
        numbered=bool(label) and isinstance(features[label], datasets.ClassLabel),
    )


@contextmanager
def _reading(failed: str) -> Iterator[None]:
    """Turn whatever the library raises into a `ValueError`: on a damaged table or a wrong schema, nearly anything."""
    try:
        yield
    except Exception as error:
        text = printable(" ".join(str(error).split())) or type(error).__name__
        raise ValueError(f"{failed}: {text[:300]}") from error


def _loaded(datasets: Any, source: str, settings: HubSettings) -> tuple[Any, str]:
    """Return the rows and, if they come from the hub, their commit."""
    path = Path(source)
    if path.is_dir() and any((path / name).is_file() for name in SAVED):
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
    """Add to a fingerprint a file, or the files of a folder that define its rows."""
    root = path if path.is_dir() else path.parent
    tables = [
        one.relative_to(root)
        for one in (sorted(root.rglob("*")) if path.is_dir() else [path])
        # The library adds files that begin with "cache-" to a saved data set when it is used.
        if one.suffix in (*TABLES, ".json") and one.is_file() and not one.name.startswith((".", "cache-"))
    ]
    hash_files(digest, root, tables)


def _names(data: Any, label: str, source: str) -> tuple[str, ...]:
    """Return the class names, none if only numbers are known. Strings are classes in alphabetical order."""
    feature = data.features[label]
    kind = getattr(feature, "dtype", "")
    if kind in _STRINGS and hasattr(data, "unique"):
        with _reading(f"the column {label!r} of {source} cannot be read"):
            return tuple(sorted({*data.unique(label)} - {None}))
    if not re.fullmatch(r"u?int\d+", kind):
        raise ValueError(
            f"the column {label!r} of {source} is of type {kind or feature}; expected classes or integers (or strings, "
            "without --streaming); give another --label-column"
        )
    return tuple(getattr(feature, "names", None) or ())


def _column(features: Mapping[str, Any], given: str, usual: str, kind: type, source: str) -> str:
    """Return the given column, or the one with the usual name, or the only one of its kind, or ""."""
    if given and given not in features:
        raise ValueError(f"{source} has no column {given!r}; expected one of {', '.join(features)}")
    alike = [name for name, feature in features.items() if isinstance(feature, kind)]
    return given or (usual if usual in features else alike[0] if len(alike) == 1 else "")
