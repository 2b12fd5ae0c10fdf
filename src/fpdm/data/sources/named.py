"""The named data sets: digits, which comes with scikit-learn, and Fashion-MNIST."""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fpdm.data.config import DATASETS
from fpdm.data.images import ImageSet
from fpdm.data.sources.idx import read_idx
from fpdm.data.sources.source import Part, Raw, Source
from fpdm.data.splits import SPLITS, stratified
from fpdm.files import cache_folder

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist
_FASHION_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_FASHION_SIZES = {"train": 60_000, "t10k": 10_000}
_FASHION_CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_FASHION_TRAIN = 55_000  # of the 60,000; the rest is for validation


def load(name: str, split: str, *, root: Path | str | None = None) -> ImageSet:
    """Load a split of a named data set into memory.

    Args:
        name: "digits" (1,797 images, 1 x 8 x 8, 10 classes; of each 60 % train, 15 % validation, 25 % test) or
            "fashion-mnist" (1 x 28 x 28, 10 classes; 55,000 train, 5,000 validation, 10,000 test).
        split: "train", "validation" or "test".
        root: Folder with the four IDX files of Fashion-MNIST, compressed (.gz) or not. By default that of Debian's
            package if it is installed, else `cache_folder()`, into which they are downloaded.

    Raises:
        ValueError: The name or split is unknown, or files are missing or damaged or cannot be downloaded.
    """
    _check_choice("data set", name, DATASETS)
    _check_choice("split", split, SPLITS)
    if name == "digits":
        return _digits(split)
    return _fashion_mnist(split, Path(root) if root is not None else None)


@dataclass(frozen=True, eq=False)
class _Pixels(Part):
    data: ImageSet

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        images, labels = self.data.images[start:stop].numpy(), self.data.labels[start:stop].tolist()
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield Raw(str(start + i), image, label)

    def count(self) -> int:
        return len(self.data)


def open_named(name: str, root: Path | None = None) -> Source:
    """Open a named data set with its own splits; arguments and errors are those of `load`."""
    sets = {split: load(name, split, root=root) for split in SPLITS}
    digest = hashlib.sha256()
    for part in sets.values():
        part.digest(digest)
    return Source(
        kind="named",
        name=name,
        parts={split: _Pixels(part) for split, part in sets.items()},
        listing=digest.hexdigest(),
        classes=class_names(name),
        numbered=True,
        shape=sets["train"].shape,
    )


def class_names(name: str) -> tuple[str, ...]:
    """Return the class names of a named data set, in the order of their labels."""
    return _FASHION_CLASSES if name == "fashion-mnist" else tuple("0123456789")


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, 1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{what} {value!r} is unknown; expected one of {', '.join(known)}{hint}")


def _digits(split: str) -> ImageSet:
    from sklearn.datasets import load_digits  # slow to import, and needed here only

    pixels, target = load_digits(return_X_y=True)  # (N, 64), (N,)
    values = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)  # (N, 1, 8, 8), 0..16 becomes 0..255
    labels = target.astype(np.int64)  # (N,)
    chosen = stratified(labels, split)
    return ImageSet("digits", torch.from_numpy(values[chosen]), torch.from_numpy(labels[chosen]), 10)


def _fashion_mnist(split: str, root: Path | None) -> ImageSet:
    if root is not None:
        missing = [name for name in _FASHION_FILES if _find(root, name) is None]
        if missing:
            raise ValueError(
                f"{root} has no {' and no '.join(missing)} (nor a .gz of it); give the folder that holds Fashion-MNIST"
            )
    else:
        root = _DEBIAN if _complete(_DEBIAN) else _downloaded(cache_folder() / "fashion-mnist")
    part = "t10k" if split == "test" else "train"
    images_file, labels_file = (_find(root, name) for name in _FASHION_FILES if name.startswith(part))
    assert images_file is not None
    assert labels_file is not None
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)  # (N, H, W), (N,)
    n = _FASHION_SIZES[part]
    if images.shape != (n, 28, 28):
        raise ValueError(f"{images_file} holds {' x '.join(map(str, images.shape))}; expected {n} x 28 x 28")
    if labels.shape != (n,):
        raise ValueError(f"{labels_file} holds {len(labels)} labels; expected {n}")
    if labels.max() > 9:
        raise ValueError(f"{labels_file} holds the label {labels.max()}; expected 0 to 9")
    rows = {"train": slice(0, _FASHION_TRAIN), "validation": slice(_FASHION_TRAIN, None), "test": slice(None)}[split]
    pixels = torch.from_numpy(images[rows].copy())[:, None]  # (N, 1, H, W); a copy, because bytes cannot be written to
    return ImageSet("fashion-mnist", pixels, torch.from_numpy(labels[rows].astype(np.int64)), 10)


def _find(folder: Path, name: str) -> Path | None:
    # The compressed file first: gzip's checksum finds damage that sizes do not show.
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _complete(folder: Path) -> bool:
    return all(_find(folder, name) is not None for name in _FASHION_FILES)


def _downloaded(folder: Path) -> Path:
    """Download the four files into `folder` unless it has them; an interruption leaves no partial file."""
    if _complete(folder):
        return folder
    from torchvision.datasets import FashionMNIST  # slow to import, and needed here only

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            raw = Path(FashionMNIST(temporary, download=True).raw_folder)
            for name in _FASHION_FILES:
                os.replace(raw / f"{name}.gz", folder / f"{name}.gz")
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"Fashion-MNIST could not be downloaded to {folder}: {' '.join(str(error).split())}; "
            "put its four IDX files in a folder and give that as root"
        ) from error
    return folder
