"""Load what a comparison needs: runs, and the images that they were trained on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset, latents_sha256, without_classes
from fpdm.data.manifest import read_manifest
from fpdm.data.sources.folder import scan
from fpdm.runs.data_card import read_data_card
from fpdm.runs.run import Run, load_run
from fpdm.runs.training_images import training_images


@dataclass(frozen=True)
class NamedRun:
    """A run with its name in the comparison."""

    name: str
    folder: Path
    run: Run


def load_runs(folders: Sequence[Path], autoencoder: str, latents: Sequence[Path]) -> list[NamedRun]:
    """Load runs that make the same kind of images.

    Args:
        folders: Their folders.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the runs recorded it.
        latents: Paths of latent caches that are no longer where the runs recorded them.

    Raises:
        ValueError: The runs were trained on different data, make images of different shapes, or lack their latents.
    """
    runs = [_with_latents(load_run(folder, autoencoder=autoencoder), folder, latents) for folder in folders]
    sources = {
        _describe(data, run.recipe.data.is_cache or bool(_data_sha256(run, folder)))
        for folder, run in zip(folders, runs, strict=True)
        if (data := images_of(run)).source != UNKNOWN
    }
    if len(sources) > 1:
        raise ValueError(f"the runs were trained on different data ({'; '.join(sorted(sources))}); expected the same")
    shapes = {run.image_shape for run in runs}  # loads the autoencoders
    if len(shapes) > 1:
        raise ValueError(f"the runs make images of different shapes ({sorted(shapes)}); expected the same")
    return [NamedRun(*one) for one in zip(_names(folders, runs), folders, runs, strict=True)]


def _names(folders: Sequence[Path], runs: Sequence[Run]) -> list[str]:
    """Name all runs by their recipes if these differ, else by their folders, as briefly as tells them apart."""
    for names in ([run.recipe.name for run in runs], [folder.absolute().name for folder in folders]):
        if len(set(names)) == len(names):
            return names
    whole = [folder.absolute() for folder in folders]
    shared = os.path.commonpath([folder.parent for folder in whole])
    names = [os.path.relpath(folder, shared) for folder in whole]
    return names if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names, 1)]


def images_of(run: Run) -> DataConfig:
    """Return the images that a run, or its latents, came from.

    Raises:
        ValueError: The run is an imported one of latents.
    """
    if run.recipe.autoencoder.source and run.recipe.data.source == UNKNOWN:
        raise ValueError(
            f"{run.recipe.name} was imported, and the latents to measure its loss on are not known; use fpdm evaluate"
        )
    return training_images(run)


def _describe(data: DataConfig, known: bool) -> str:
    """Describe images. Where they are does not matter if their content is known, which `check_images` compares."""
    if not data.is_folder:
        return data.source
    return f"{'a folder' if known else data.source}, {data.channels} x {data.size} x {data.size}"


def _data_sha256(run: Run, folder: Path) -> str:
    """Return the hash of the images or latents that a run was trained on; empty if it is not known."""
    card = None if run.recipe.images else read_data_card(folder)
    return run.recipe.images or (card.sha256 if card is not None else "")


def _with_latents(run: Run, folder: Path, given: Sequence[Path]) -> Run:
    """Return a run with the place where the cache of its latents is now; a run of images is returned as it is."""
    data = run.recipe.data
    if not run.recipe.autoencoder.source or data.source == UNKNOWN:
        return run
    sha256, places = _data_sha256(run, folder), list(dict.fromkeys([data.source, *map(str, given)]))
    damaged = ""
    for one in (replace(data, source=place) for place in places):
        try:
            if one.is_cache and (not sha256 or latents_sha256(one) == sha256):
                return replace(run, recipe=replace(run.recipe, data=one))
        except ValueError as error:
            damaged = f"{error}; "
    what = f" (sha256 {sha256[:12]})" if sha256 else ""
    raise ValueError(
        f"{damaged}the latents that {run.recipe.name} was trained on{what} are not in {' or '.join(places)}; "
        "say where they are with --latents"
    )


def find_images(known: Sequence[DataConfig], given: str) -> DataConfig:
    """Return the images that runs were trained on, in the given place or else the first where there is anything."""
    config = next((one for one in known if one.source != UNKNOWN), known[0])
    if given:
        return replace(config, source=given)
    places = [one for one in known if one.folder is None or one.folder.exists()]
    if config.source != UNKNOWN and not places:
        where = " or ".join(dict.fromkeys(one.source for one in known if one.source != UNKNOWN))
        raise ValueError(f"the images that the runs were trained on are not in {where}; say where they are with --data")
    return next((one for one in places if one.source != UNKNOWN), config)


def check_images(one: NamedRun, config: DataConfig, dataset: Dataset[ImageSet]) -> None:
    """Raise if a run was trained on other images; warn if it was trained on those that it is measured against."""
    data = one.run.recipe.data
    if data.is_cache:
        manifest = read_manifest(data.source)
        if not manifest.has_usual_splits:
            warnings.warn(
                f"{one.folder} was trained on the latents of all images of {config.source}, including those that it "
                "is now measured against; prepare them without --holdout to keep some apart",
                RuntimeWarning,
                stacklevel=3,
            )
        if (
            manifest.kind == "folder"
            and dataset.summary is not None
            and scan(dataset.summary.folder).fingerprint() != manifest.listing
        ):
            raise ValueError(
                f"{one.folder} was trained on latents of other images than {dataset.summary.folder} has now; put them "
                "back, or say where they are with --data"
            )
        return
    sha256 = _data_sha256(one.run, one.folder)
    now = dataset if data.conditional == config.conditional else without_classes(dataset)
    if data.source != UNKNOWN and sha256 and now.sha256 != sha256:
        raise ValueError(
            f"{one.folder} was trained on other images than {config.source} has now (sha256 {sha256[:12]}, now "
            f"{now.sha256[:12]}); put them back, or say where they are with --data"
        )
