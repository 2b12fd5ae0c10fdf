"""Opening any image source: which kind it is, and which of its images are kept from training."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from fpdm.data.config import DATASETS, DataConfig, HubSettings
from fpdm.data.decode import escaped
from fpdm.data.sources.folder import NoImagesError, open_folder, scan
from fpdm.data.sources.hub import SAVED, TABLES, open_hub
from fpdm.data.sources.named import open_named
from fpdm.data.sources.source import Chosen, Source, unusable
from fpdm.data.sources.tar import open_tar
from fpdm.randomness import permutation

_HOLDOUT_SEED = 1797  # which images are held out is a function of it and their number alone


def open_source(
    config: DataConfig,
    *,
    hub: HubSettings | None = None,
    holdout: int | None = None,
    root: Path | None = None,
    strict: bool = False,
) -> Source:
    """Open the images that a configuration names: a named data set, a folder, tar shards or a hub data set.

    A folder is one of tar shards if a .tar lies in it, and a hub data set if a .parquet or .arrow does, however deep;
    but images in class folders win over both, with a warning, and images without classes over the latter.

    A named data set and a folder of images have train, validation and test splits of their own; see `FolderFiles` for
    those of a folder. Tar shards and hub data sets have none: all their images are to train on.

    Args:
        config: The images.
        hub: Which images of a hub data set; None looks for none on the hub, and reads a folder that has images as a
            folder of images whatever else lies in it.
        holdout: Number of images that are kept from training as the validation split, instead of the source's own
            splits; 0 trains on all. None takes the source's own splits.
        root: Folder with the files of a named data set.
        strict: Raise if anything would be skipped.

    Raises:
        ValueError: There is no such source, an option is for another kind of source, or, with `strict`, something
            would be skipped.
    """
    if not config.is_folder:
        _check_hub_settings(hub, config.source)
        if holdout:
            raise ValueError(f"--holdout {holdout}: {config.source} has validation images of its own; leave it out")
        return open_named(config.source, root)
    if root is not None:
        raise ValueError(f"--data-root {root} is for {', '.join(DATASETS)}, not for {config.source}")
    path = Path(config.source)
    if config.is_cache:
        raise ValueError(f"{path} is a cache of latents already; give the images")
    # Without the hub, what has images is a folder of images, as it is for training.
    kind = "folder" if hub is None and not path.exists() else _kind(path, images_first=hub is None)
    if kind != "hub":
        _check_hub_settings(hub, config.source)
    if kind == "folder":
        source = open_folder(path, whole=holdout is not None, strict=strict, classes=hub is not None)
    else:
        source = open_tar(path) if kind == "tar" else open_hub(config.source, hub or HubSettings())
        if strict and source.skipped:
            raise unusable(path, source.skipped[0])
    return _held_out(source, holdout) if holdout else source


def _check_hub_settings(hub: HubSettings | None, source: str) -> None:
    if hub not in (None, HubSettings()):
        raise ValueError(
            f"--split, --image-column, --label-column and --streaming are for hub data sets, not for {source}"
        )


def _kind(path: Path, *, images_first: bool) -> Literal["folder", "tar", "hub"]:
    if path.is_dir():
        return _kind_of_folder(path, images_first=images_first)
    if path.exists():
        return "tar" if path.suffix == ".tar" else "hub" if path.suffix in TABLES else "folder"
    if path.suffix in (".tar", *TABLES):
        raise ValueError(f"there is no file {path}; expected tar shards, a .parquet or a .arrow, or a folder of them")
    near = difflib.get_close_matches(str(path), DATASETS, 1)
    if near and "/" not in str(path):  # before the hub is asked, which takes long where there is no network
        raise ValueError(
            f"there is no folder {path}; did you mean {near[0]}? A data set of the hub is given with its owner: "
            f"OWNER/{path}"
        )
    on_hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(path)) and not str(path).startswith(".")
    return "hub" if on_hub else "folder"


def _kind_of_folder(path: Path, *, images_first: bool) -> Literal["folder", "tar", "hub"]:
    saved = any((path / name).is_file() for name in SAVED)
    if saved and not images_first:
        return "hub"
    tar = next((one.name for one in path.glob("*.tar")), "")
    table = next((name for _, _, names in os.walk(path) for name in names if name.endswith(TABLES)), "")
    if not (saved or tar or table):
        return "folder"
    other = "tar" if tar and not saved else "hub"
    try:
        files = scan(path)
    except NoImagesError:
        return other
    # A README or LICENSE without an ending may be an image among images, but does not make a folder of images.
    if not any(one.suffix for one in files.paths) or (tar and not files.classes and not images_first):
        return other
    if images_first:
        return "folder"
    warnings.warn(
        f"{escaped(path)} is read as a folder of images, for it has some; {escaped(tar or table)} is left out: move it "
        "elsewhere to use it",
        RuntimeWarning,
        stacklevel=4,
    )
    return "folder"


def _held_out(source: Source, holdout: int) -> Source:
    whole = source.parts["train"]
    n = whole.count()
    if n is None:
        raise ValueError(
            f"--holdout {holdout}: the number of images in a stream is unknown; leave out --streaming or --holdout"
        )
    if holdout >= n:
        raise ValueError(f"--holdout {holdout}: there are {n} images; expected fewer than that")
    held = np.zeros(n, bool)
    held[permutation(n, seed=_HOLDOUT_SEED, index=0)[:holdout]] = True
    parts = {"train": Chosen(whole, np.flatnonzero(~held)), "validation": Chosen(whole, np.flatnonzero(held))}
    return replace(source, parts=parts)
