"""How the images of a configuration, or their latents, are had."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from fpdm.data.config import DATASETS, UNKNOWN, DataConfig
from fpdm.data.dataset import Examples
from fpdm.data.images import ImageSet
from fpdm.data.latents import open_cache
from fpdm.data.manifest import read_manifest
from fpdm.data.sources.folder import FolderSummary, load_folder
from fpdm.data.sources.named import class_names, load
from fpdm.data.splits import SPLITS, Splits, split_folder

E = TypeVar("E", bound=Examples)


@dataclass(frozen=True, eq=False)
class Dataset(Generic[E]):
    """A run's images, or their latents.

    Attributes:
        splits: To train on, to validate and to test; the latter two may be empty in a cache of latents.
        classes: The classes' names in the order of their labels; none if there are no classes.
        summary: What was found in a folder; None for all else.
    """

    splits: Splits[E]
    classes: tuple[str, ...]
    summary: FolderSummary | None

    @property
    def sha256(self) -> str:
        """Of all images and labels, so that data that have changed show."""
        digest = hashlib.sha256()
        for part in (self.splits.train, self.splits.validation, self.splits.test):
            part.digest(digest)
        return digest.hexdigest()


def load_dataset(
    config: DataConfig, *, root: Path | str | None = None, strict: bool = False, workers: int | None = None
) -> Dataset[Any]:
    """Load what a configuration names: images, or the latents of a cache.

    Args:
        config: Which.
        root: Folder with the own files of a data set that comes by name.
        strict: A folder's broken images are errors.
        workers: Threads that decode a folder's images; by default one for each core, 8 at most.

    Returns:
        `ImageSet`s or `LatentSet`s.

    Raises:
        ValueError: As `load`, `load_folder`, `split_folder` and `open_cache` raise it.
    """
    if not config.is_cache:
        return load_images(config, root=root, strict=strict, workers=workers)
    manifest, parts = open_cache(config.source)
    if not len(parts["train"]):
        raise ValueError(f"the cache {config.source} has no images to train on")
    if config.flip and not manifest.settings.flip:
        raise ValueError(
            f"--flip: the cache {config.source} was prepared without the mirrored images; give --no-flip, or prepare "
            "another cache with --flip"
        )
    latents = Splits(*(parts[split] for split in SPLITS))
    return Dataset(latents, manifest.classes, None) if config.conditional else _unconditional(latents, None)


def load_images(
    config: DataConfig, *, root: Path | str | None = None, strict: bool = False, workers: int | None = None
) -> Dataset[ImageSet]:
    """Load the images of a configuration, for a cache those that it was made from.

    The images of a folder are divided anew: a cache is of all of them, save those held out, to train on.

    Args:
        config: Which.
        root: As of `load_dataset`.
        strict: The same.
        workers: The same.

    Raises:
        ValueError: As `load`, `load_folder` and `split_folder` raise it, or the images of the cache are in tar shards
            or a data set of the hub, which are not loaded into memory.
    """
    if config.is_cache:
        manifest = read_manifest(config.source)
        if manifest.kind not in ("named", "folder"):
            raise ValueError(
                f"the cache {config.source} was made from {manifest.data.source}, which is no folder of images; say "
                "with --data where such a folder is"
            )
        config = replace(manifest.data, conditional=config.conditional)
    if config.source == UNKNOWN:
        raise ValueError("nobody knows what an imported model was trained on; say with --data which images to use")
    if config.is_folder:
        if root is not None:
            raise ValueError(
                f"data-root is {root}, but the data is the folder {config.source}; it is for {', '.join(DATASETS)}"
            )
        loaded = load_folder(
            config.source,
            size=config.size,
            channels=config.channels,
            crop=config.crop,
            strict=strict,
            workers=workers,
        )
        splits, summary = split_folder(loaded.data), loaded.summary
        classes = tuple(one.name for one in summary.classes)
    else:
        splits, summary = Splits(*(load(config.source, split, root=root) for split in SPLITS)), None
        classes = class_names(config.source)
    return Dataset(splits, classes, summary) if config.conditional else _unconditional(splits, summary)


def _unconditional(splits: Splits[Any], summary: FolderSummary | None) -> Dataset[Any]:
    parts = (splits.train, splits.validation, splits.test)
    without = [replace(part, labels=torch.zeros_like(part.labels), num_classes=0) for part in parts]
    return Dataset(Splits(*without), (), summary)
