"""Load the images, or the cached latents, that a `DataConfig` describes."""

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from fpdm.data.config import DATASETS, UNKNOWN, DataConfig
from fpdm.data.dataset import Examples
from fpdm.data.decode import Decoder, decoders, escaped
from fpdm.data.folder_summary import ClassCount, FolderSummary, Span
from fpdm.data.images import ImageSet
from fpdm.data.labels import warn_of_look_alikes
from fpdm.data.latents import open_cache
from fpdm.data.manifest import read_manifest
from fpdm.data.sources.folder import FolderFiles, scan
from fpdm.data.sources.named import class_names, load
from fpdm.data.sources.source import Skipped, check_most_readable, unusable
from fpdm.data.splits import SPLITS, SmallClassesError, Splits, check_trained, counted, split_folder
from fpdm.errors import printable
from fpdm.memory import check_memory
from fpdm.progress_bar import track

E = TypeVar("E", bound=Examples)


@dataclass(frozen=True, eq=False)
class Dataset(Generic[E]):
    """The images of a run, or their latents.

    Attributes:
        splits: Train, validation and test; the latter two may be empty in a cache of latents.
        classes: Class names in the order of their labels; none if there are no classes.
        summary: What was found in a folder; None for all other sources.
        numbers: The data's own number of each class; none if it has only names.
    """

    splits: Splits[E]
    classes: tuple[str, ...]
    summary: FolderSummary | None
    numbers: tuple[int, ...] = ()

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of all images and labels, by which data is known wherever it is."""
        digest = hashlib.sha256()
        for part in (self.splits.train, self.splits.validation, self.splits.test):
            part.digest(digest)
        return digest.hexdigest()


def load_dataset(
    config: DataConfig, *, root: Path | str | None = None, strict: bool = False, workers: int | None = None
) -> Dataset[Any]:
    """Load the images, or the latents of a cache, that a configuration names.

    Args:
        config: The data.
        root: Folder with the files of a named data set.
        strict: Raise if anything in a folder would be skipped.
        workers: Number of threads that decode a folder's images; by default one per core, at most 8.

    Returns:
        A data set of images (`ImageSet`) or of latents (`LatentSet`).

    Raises:
        ValueError: As `load`, `load_folder`, `split_folder` and `open_cache` raise it.
    """
    if not config.is_cache:
        return load_images(config, root=root, strict=strict, workers=workers)
    return _load_cache(config)


def latents_sha256(config: DataConfig) -> str:
    """Return `Dataset.sha256` of a cache, which its manifest alone decides.

    Raises:
        ValueError: There is no finished cache, or none that fits the configuration.
    """
    return _load_cache(config, verify=False).sha256


def without_classes(dataset: Dataset[E]) -> Dataset[E]:
    """Return the same images without their classes."""
    return _unconditional(dataset.splits, dataset.summary)


def _load_cache(config: DataConfig, *, verify: bool = True) -> Dataset[Any]:
    manifest, parts = open_cache(config.source, verify=verify)
    if not len(parts["train"]):
        raise ValueError(f"the cache {config.source} has no images to train on")
    if config.flip and not manifest.settings.flip:
        raise ValueError(
            f"--flip: the cache {config.source} was prepared without the mirrored images; give --no-flip, or prepare "
            "another cache with --flip"
        )
    latents = Splits(*(parts[split] for split in SPLITS))
    if not config.conditional:
        return _unconditional(latents, None)
    if manifest.classes:
        check_trained(latents.train.labels, manifest.classes, f"the cache {config.source}")
    return Dataset(latents, manifest.classes, None, manifest.labels if manifest.numbered else ())


def load_images(
    config: DataConfig,
    *,
    root: Path | str | None = None,
    strict: bool = False,
    workers: int | None = None,
    learn_classes: bool = True,
) -> Dataset[ImageSet]:
    """Load the images that a configuration names; for a cache, the images that it was made from.

    A folder is split as `fpdm prepare` splits it, unless that was told otherwise by `--holdout`.

    Args:
        config: The data.
        root: As in `load_dataset`.
        strict: As in `load_dataset`.
        workers: As in `load_dataset`.
        learn_classes: Raise if a class is too small to be learned, should the configuration be conditional; otherwise
            such images are loaded without classes.

    Raises:
        ValueError: As `load`, `load_folder` and `split_folder` raise it, or a cache was made from tar shards or a hub
            data set, which are not loaded into memory.
    """
    config = encoded_images(config)
    if config.source == UNKNOWN:
        raise ValueError("an imported model does not record its training images; give images with --data")
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
        summary = loaded.summary
        classes, numbers = tuple(one.name for one in summary.classes), ()
        if config.conditional and learn_classes:
            loaded.files.warn_of_labels()
            warn_of_look_alikes(classes)
        try:
            splits = split_folder(loaded.data, loaded.splits, names=classes, conditional=config.conditional)
        except SmallClassesError:
            if learn_classes:
                raise
            splits = split_folder(loaded.data, loaded.splits, conditional=False)
            config = replace(config, conditional=False)
    else:
        splits, summary = Splits(*(load(config.source, split, root=root) for split in SPLITS)), None
        classes = class_names(config.source)
        numbers = tuple(range(len(classes)))
    return Dataset(splits, classes, summary, numbers) if config.conditional else _unconditional(splits, summary)


def encoded_images(config: DataConfig) -> DataConfig:
    """Return the images that a cache was made from; anything but a cache is returned as it is.

    Raises:
        ValueError: They are in tar shards or a hub data set.
    """
    if not config.is_cache:
        return config
    manifest = read_manifest(config.source)
    if manifest.kind not in ("named", "folder"):
        raise ValueError(
            f"the cache {config.source} was made from {manifest.data.source}, which is not a folder of images; give "
            "such a folder instead"
        )
    return replace(manifest.data, conditional=config.conditional)


def _unconditional(splits: Splits[Any], summary: FolderSummary | None) -> Dataset[Any]:
    parts = (splits.train, splits.validation, splits.test)
    without = [replace(part, labels=torch.zeros_like(part.labels), num_classes=0) for part in parts]
    return Dataset(Splits(*without), (), summary)


@dataclass(frozen=True, eq=False)
class LoadedFolder:
    """A folder's images in memory.

    Attributes:
        data: The images, in the order of their paths.
        summary: What was found in the folder.
        splits: Which of the images belong to train, validation and test; see `FolderFiles`.
        files: The files of the folder.
    """

    data: ImageSet
    summary: FolderSummary
    splits: Mapping[str, Sequence[int]]
    files: FolderFiles


def load_folder(
    folder: Path | str,
    size: int,
    *,
    channels: int = 3,
    crop: str = "lanczos",
    background: tuple[int, int, int] = (255, 255, 255),
    workers: int | None = None,
    strict: bool = False,
    max_bytes: int = 4 * 2**30,
) -> LoadedFolder:
    """Read a folder of images into memory. For small sets: all pixels are held at once.

    `Decoder` says how an image becomes a square of `size` x `size` pixels. Files that cannot be read are skipped with a
    reason, and a class folder without a usable image does not count as a class. The result does not depend on
    `workers`.

    Args:
        folder: The folder; see `scan` for what counts as an image and as a class.
        size: Height and width to which the images are resized.
        channels: 3 for RGB, 1 for grey.
        crop: "lanczos" or "adm"; see `DataConfig`.
        background: RGB, 0..255, seen where an image is transparent.
        workers: Number of threads that decode; by default one per core, at most 8.
        strict: Raise at the first thing that would be skipped, or at a class folder without an image.
        max_bytes: Refuse a set whose pixels would take more.

    Raises:
        ValueError: An argument is out of range, most of its images cannot be read, or the pixels take too many bytes;
            with `strict`, something would be skipped: first whatever is known from the names alone, then files in the
            order of their paths.
    """
    decoder, threads = Decoder(size, channels, crop, background), decoders(workers)
    files = scan(folder)
    if strict:
        files.require_complete()
    needed = len(files.paths) * channels * size * size
    if needed > max_bytes:
        raise ValueError(
            f"{counted(len(files.paths), 'image')} of {channels} x {size} x {size} would take {needed / 2**30:.3g} GiB "
            f"of memory; the limit is {max_bytes / 2**30:.3g} GiB; use fewer images or a smaller size"
        )
    check_memory(needed, f"a folder of {counted(len(files.paths), 'image')}", "fewer images or a smaller size")
    pixels = np.empty((len(files.paths), channels, size, size), np.uint8)  # (N, C, H, W)
    kept: list[int] = []  # of the paths
    sizes: list[tuple[int, int]] = []
    bad: list[Skipped] = []
    with threads as pool:
        found = files.images().decode(0, len(files.paths), decoder, pool)
        shown = track(found, "reading images", len(files.paths), "images")
        for place, (_, image) in enumerate(shown):
            if not isinstance(image, str):
                pixels[len(kept)] = image.pixels  # (C, H, W)
                kept.append(place)
                sizes.append((image.width, image.height))
                continue
            bad.append(Skipped(files.paths[place], image))
            if strict:
                raise unusable(files.root, bad[-1])
    if not kept:
        raise ValueError(
            f"no image in {escaped(files.root)} can be read ({len(files.paths)} tried); the first: {bad[0].to_text()}"
        )

    if bad:
        check_most_readable(len(bad), len(files.paths), escaped(files.root), bad[0].to_text())

    # Class folders without a usable image get no label: (K,), (n,), (K,)
    usable, labels, counts = np.unique(files.labels()[kept], return_inverse=True, return_counts=True)
    names = [files.listed_classes[number] for number in usable] if files.classes else []
    position = {place: index for index, place in enumerate(kept)}
    data = ImageSet(
        escaped(files.root.resolve().name),
        torch.from_numpy(pixels[: len(kept)]),  # (n, C, H, W)
        torch.from_numpy(labels.astype(np.int64)),  # (n,)
        len(names),
    )
    widths, heights = zip(*sizes, strict=True)
    summary = FolderSummary(
        folder=files.root,
        images=len(kept),
        size=size,
        channels=channels,
        classes=tuple(map(ClassCount, map(printable, names), counts.tolist())),
        empty=tuple(name for name in files.classes if name not in names),
        width=Span(min(widths), statistics.median(widths), max(widths)),
        height=Span(min(heights), statistics.median(heights), max(heights)),
        enlarged=sum(min(one) < size for one in sizes),
        skipped=tuple(sorted([*files.skipped, *bad], key=lambda one: one.path.parts)),
        others=files.others,
    )
    splits = {
        split: [position[place] for place in places if place in position] for split, places in files.splits().items()
    }
    return LoadedFolder(data, summary, splits, files)
