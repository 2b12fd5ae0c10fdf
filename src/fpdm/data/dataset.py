"""Which images a run is about, as a frozen configuration, and how they are had."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fpdm.data.folder import FolderSummary, Splits, load_folder, split_folder
from fpdm.data.images import ImageSet
from fpdm.data.sources import DATASETS, SPLITS, load


@dataclass(frozen=True)
class DataConfig:
    """Images to train on, and to be judged by.

    Attributes:
        source: "digits", "fashion-mnist", or the path of a folder of images.
        size: Pixels a side that a folder's images are brought to (middle square, Lanczos).
        channels: 3 (RGB) or 1 (grey), for a folder.
        conditional: Learn the classes, where there are some; else the model knows none.
        flip: Mirror every training image left to right with probability one half.

    Raises:
        ValueError: A field outside its range.
    """

    source: str
    size: int = 32
    channels: int = 3
    conditional: bool = True
    flip: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise ValueError(f"source is {self.source!r}; expected {', '.join(DATASETS)} or a folder of images")
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size is {self.size!r}; expected 1 or more pixels")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels!r}; expected 3 (RGB) or 1 (grey)")
        for name in ("conditional", "flip"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected true or false")

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder, and no data set that comes by name."""
        return self.source not in DATASETS


@dataclass(frozen=True, eq=False)
class Dataset:
    """A run's images.

    Attributes:
        splits: The training, validation and test images.
        classes: The classes' names in the order of their labels; none if there are no classes.
        summary: What was found in a folder; None for a data set that comes by name.
    """

    splits: Splits
    classes: tuple[str, ...]
    summary: FolderSummary | None

    @property
    def sha256(self) -> str:
        """Of all images and labels, so that a folder that has changed shows."""
        digest = hashlib.sha256()
        for part in (self.splits.train, self.splits.validation, self.splits.test):
            digest.update(str((part.num_classes, *part.images.shape)).encode())
            for tensor in (part.images, part.labels):
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def load_dataset(
    config: DataConfig, *, root: Path | str | None = None, strict: bool = False, workers: int | None = None
) -> Dataset:
    """Load the images of a configuration.

    Args:
        config: Which.
        root: Folder with the own files of a data set that comes by name.
        strict: A folder's broken images are errors.
        workers: Threads that decode a folder's images; by default one for each core, 8 at most.

    Raises:
        ValueError: As `load`, `load_folder` and `split_folder` raise it.
    """
    if config.is_folder:
        if root is not None:
            raise ValueError(
                f"data-root is {root}, but the data is the folder {config.source}; it is for {', '.join(DATASETS)}"
            )
        loaded = load_folder(config.source, size=config.size, channels=config.channels, strict=strict, workers=workers)
        splits, summary = split_folder(loaded.data), loaded.summary
        classes = tuple(one.name for one in summary.classes)
    else:
        splits, summary = Splits(*(load(config.source, split, root=root) for split in SPLITS)), None
        classes = _FASHION_CLASSES if config.source == "fashion-mnist" else tuple("0123456789")
    if not config.conditional:
        splits = Splits(*map(_without_classes, (splits.train, splits.validation, splits.test)))
        classes = ()
    return Dataset(splits, classes, summary)


_FASHION_CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def _without_classes(data: ImageSet) -> ImageSet:
    return replace(data, labels=torch.zeros_like(data.labels), num_classes=0)
