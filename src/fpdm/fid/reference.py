"""Make reference statistics of real images: of a folder of any size, tar shards, a named data set, or an `.npz`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fpdm.configuration import Record
from fpdm.data.config import DataConfig
from fpdm.data.decode import Decoder, decoders, escaped
from fpdm.data.loading import encoded_images
from fpdm.data.manifest import read_manifest
from fpdm.data.sources.open import open_source
from fpdm.data.sources.source import Joined, Skipped, check_most_readable, unusable, write_skipped
from fpdm.data.splits import counted
from fpdm.evaluation.features import Features, same_extractor
from fpdm.evaluation.frechet import GaussianStatistics
from fpdm.evaluation.pretrained import pretrained_extractor
from fpdm.fid.feature_shards import FeatureShards, ShardImages, extract_features, shard_size
from fpdm.fid.npz import ImageArchive
from fpdm.fid.settings import ALL, REFERENCE, ReferenceSettings
from fpdm.fid.statistics import Origin, read_reference, write_reference
from fpdm.files import read_text, sha256_of
from fpdm.memory import check_memory
from fpdm.outputs import MARKER, check_file
from fpdm.processes import PATIENCE, processes

_NAMED = 5  # skipped files in the summary


@dataclass(frozen=True)
class MadeReference(Record):
    """A finished reference.

    Attributes:
        out: The file.
        origin: The images and features that it is of.
        dims: Number of features per image.
        features: Number of images whose features are in the file.
        skipped: Path and reason of each image that could not be read; a file beside the reference lists them.
        made: Whether this call made it; otherwise it existed already.
    """

    out: Path
    origin: Origin
    dims: int
    features: int
    skipped: tuple[tuple[str, str], ...]
    made: bool

    def to_text(self) -> str:
        """Return a few lines for the terminal."""
        o = self.origin
        lines = [
            f"{'' if self.made else 'nothing left to do: '}{self.out}: mu and sigma of {self.dims} features of "
            f"{o.extractor}, from {o.images:,} images of {o.source} ({o.split}), {o.channels} x {o.size} x {o.size}, "
            f"{o.resize}; the features of {self.features:,} are kept"
        ]
        if self.skipped:
            lines.append(f"  skipped   {len(self.skipped)}, listed in {_skipped_file(self.out).name}")
            lines += [f"    {path}: {reason}" for path, reason in self.skipped[:_NAMED]]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Images:
    """Images that are read a range at a time; other images have another `fingerprint`."""

    name: str
    count: int
    size: int
    channels: int
    resize: str
    fingerprint: str
    read: Callable[[range], ShardImages]


def make_reference(
    images: str, out: Path, settings: ReferenceSettings, *, root: Path | None = None, overwrite: bool = False
) -> MadeReference | None:
    """Write reference statistics. Started processes share the work, and the main one returns the result.

    The same call resumes an interrupted one, and does not repeat what is finished.

    Args:
        images: A folder of images or of tar shards, a .parquet or .arrow file, an `.npz` with `arr_0`, or the name of a
            data set.
        out: The `.npz` file to write. Until it is finished, a folder beside it holds what was done.
        settings: Which of the images to use, and which features.
        root: Folder with the files of a named data set.
        overwrite: Replace the file if it is something else.

    Raises:
        ValueError: There are fewer than 2 images, most cannot be read, or one and `strict` is set, the extractor cannot
            be loaded, `out` does not end with .npz, exists and is something else, or another process is writing it.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 arrived; finished shards stay.
    """
    if out.suffix != ".npz":
        raise ValueError(f"--out {out}: expected a file that ends with .npz")
    state = processes(timeout=PATIENCE)
    device = torch.device(state.device or "cpu")
    source = _open(images, settings, root)
    held = min(settings.piece_size, source.count)
    what, needed = f"a piece of {counted(held, 'image')}", held * source.channels * source.size**2
    check_memory(needed, what, "a smaller --piece-size or --size")
    with state.local_main_process_first():  # it may have to download
        extractor = pretrained_extractor(
            settings.extractor, weights=Path(settings.weights) if settings.weights else None, device=device
        )
    fingerprint = _fingerprint(source, extractor.identity, out)
    folder = out.with_name(f"{out.name}.pieces")
    size = shard_size(settings.piece_size, (source.channels, source.size, source.size))
    shards = FeatureShards(folder / "features", source.count, size, fingerprint, extractor.identity)
    if state.is_main_process:
        # Whoever was killed between the list of skipped images and the reference has left its folder.
        _check_file(out, images, fingerprint, overwrite, listed=(folder / MARKER).exists())
    with REFERENCE.hold(folder) if state.is_main_process else contextlib.nullcontext():
        state.wait_for_everyone()  # until it is locked
        found = _finished(out, fingerprint, settings)
        state.wait_for_everyone()  # until all have looked
        if found is None:
            extract_features(shards, source.read, extractor, batch_size=settings.batch_size, what="features")
            if state.is_main_process:
                try:
                    found = _write(shards, source, out, settings)
                except ValueError:  # the images do not serve, and would not if it were tried again
                    shards.delete()
                    raise
        elif state.is_main_process:
            shards.delete()  # by a call that was killed before it could
    if state.is_main_process:
        with contextlib.suppress(OSError):  # another process has begun
            for name in (".lock", MARKER):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    return found if state.is_main_process else None


def _fingerprint(source: _Images, extractor: str, out: Path) -> str:
    """Hash the images and the extractor, by the name that it had when the existing file was made, if there is one."""
    with contextlib.suppress(ValueError):  # there is none, or it is damaged
        before = read_reference(out).origin
        if before is not None and same_extractor(before.extractor, extractor):
            extractor = before.extractor
    return hashlib.sha256(f"{source.fingerprint} {extractor}".encode()).hexdigest()


def _check_file(out: Path, images: str, fingerprint: str, overwrite: bool, *, listed: bool) -> None:
    """Raise if the file may not be written, or the list of skipped images beside it."""
    if out.exists() and Path(images).exists() and out.samefile(images):
        raise ValueError(f"--out {out} is the file that the images are read from; choose another name")
    try:
        ours = read_reference(out).fingerprint == fingerprint
    except ValueError:  # there is none, or it is something else
        ours = False
    check_file(out, ours=ours, overwrite=overwrite)
    check_file(_skipped_file(out), ours=ours or listed, overwrite=overwrite)


def _finished(out: Path, fingerprint: str, settings: ReferenceSettings) -> MadeReference | None:
    """Return the existing reference if it is of the same images, features and settings."""
    try:
        found = read_reference(out)
        listed = read_text(_skipped_file(out)) if _skipped_file(out).exists() else ""
    except ValueError:  # there is none, or it is damaged
        return None
    skipped = tuple((path, reason) for path, _, reason in (line.partition("\t") for line in listed.splitlines()))
    kept = len(found.features) if found.features is not None else 0
    origin = found.origin
    if origin is None or found.fingerprint != fingerprint or kept != min(settings.features, origin.images):
        return None
    return None if skipped and settings.strict else MadeReference(out, origin, len(found.mean), kept, skipped, False)


def _write(shards: FeatureShards, source: _Images, out: Path, settings: ReferenceSettings) -> MadeReference:
    """Write the reference, which finishes it, and delete the shards."""
    skipped = [Skipped(Path(path), reason) for notes in shards.notes() for path, reason in notes.get("skipped", ())]
    try:
        statistics = GaussianStatistics.of_parts(shards.features())
    except ValueError as error:
        if not skipped:
            raise
        raise ValueError(f"{error}; {len(skipped)} skipped, the first: {skipped[0].to_text()}") from error
    assert statistics.n is not None
    if skipped:
        count = statistics.n + len(skipped)
        check_most_readable(len(skipped), count, source.name, skipped[0].to_text())
    if statistics.n <= statistics.dims:
        warnings.warn(
            f"{statistics.n} images for features of {statistics.dims} dimensions: distances to this reference are far "
            "too large; use more images",
            stacklevel=3,
        )
    extractor, split = shards.extractor, settings.split
    origin = Origin(source.name, split, statistics.n, source.size, source.channels, source.resize, extractor)
    kept = _sample(shards, statistics.n, min(settings.features, statistics.n))
    folder = shards.folder.parent  # ours, while a file of a killed call beside `out` would stay for ever
    _skipped_file(out).unlink(missing_ok=True)  # of another reference
    if skipped:
        write_skipped(skipped, folder / _skipped_file(out).name)
        os.replace(folder / _skipped_file(out).name, _skipped_file(out))
    write_reference(folder / out.name, statistics, kept, origin, shards.fingerprint)
    os.replace(folder / out.name, out)
    shards.delete()
    named = tuple((escaped(path), reason) for path, reason in skipped)
    return MadeReference(out, origin, statistics.dims, len(kept.values) if kept else 0, named, True)


def _skipped_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}.skipped.txt")


def _sample(shards: FeatureShards, n: int, count: int) -> Features | None:
    """Return the features (count, F) of `count` of the `n` images, evenly spaced."""
    places = torch.arange(count) * n // max(count, 1)  # (count,)
    chosen, first = [], 0
    for part in shards.features():
        here = places[(places >= first) & (places < first + len(part.values))]  # (c,)
        if len(here):
            chosen.append(part.values[here - first])  # (c, F)
        first += len(part.values)
    return Features(torch.cat(chosen), shards.extractor) if chosen else None


_RESIZES = {"lanczos": "middle square, Lanczos", "adm": "ADM's halving, bicubic, middle square"}
_UNCHANGED = "as they come"


def _open(images: str, settings: ReferenceSettings, root: Path | None) -> _Images:
    config = DataConfig(images, size=settings.size, channels=settings.channels, crop=settings.crop)
    if config.is_folder and Path(images).suffix == ".npz":
        return _archive(ImageArchive(Path(images)), settings)
    if config.is_cache and settings.split != ALL and not read_manifest(config.source).has_usual_splits:
        raise ValueError(
            f"split is {settings.split}, but the cache {images} was not split as fpdm train splits a folder, so its "
            "models may have been trained on those images; leave --split out, or prepare a cache without --holdout"
        )
    config = encoded_images(config)
    # All images in the order of the folder, or those of one split.
    source = open_source(config, holdout=0 if settings.split == ALL else None, root=root, strict=settings.strict)
    if settings.split != ALL and len(source.parts) == 1:
        raise ValueError(f"split is {settings.split}, but {images} has no splits; leave it out")
    part = Joined([*source.parts.values()] if settings.split == ALL else [source.parts[settings.split]])
    if (part.count() or 0) < 2:
        raise ValueError(
            f"the {settings.split} images of {images} are {part.count()}; expected 2 or more: add images, or choose "
            "another --split"
        )
    shape = channels, size, _ = source.shape or (config.channels, config.size, config.size)
    decoder = Decoder(size, channels, config.crop)

    def read(shard: range) -> ShardImages:
        skipped = [] if shard.start else [*source.skipped]
        pixels = []
        with decoders(None) as pool:
            for raw, found in part.decode(shard.start, shard.stop, decoder, pool):
                if not isinstance(found, str):
                    pixels.append(found.pixels)  # (C, H, W)
                    continue
                skipped.append(Skipped(Path(raw.name), found))
                if settings.strict:
                    raise unusable(config.source, skipped[-1])
        stacked = np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8)  # (B, C, H, W)
        return ShardImages(torch.from_numpy(stacked), {"skipped": [(str(path), reason) for path, reason in skipped]})

    fingerprint = f"{source.listing} {settings.split}"
    if source.shape is None:
        fingerprint += f" {config.size} {config.channels} {config.crop}"
    resize = _RESIZES[config.crop] if source.shape is None else _UNCHANGED
    return _Images(source.name, part.count(), size, channels, resize, fingerprint, read)


def _archive(archive: ImageArchive, settings: ReferenceSettings) -> _Images:
    count, height, width, channels = archive.shape
    if height != width:
        raise ValueError(f"the images of {archive.path} are {height} x {width}; expected squares")
    if settings.split != ALL:
        raise ValueError(f"split is {settings.split}, but {archive.path} has no splits; leave it out")
    return _Images(
        archive.path.name,
        count,
        height,
        channels,
        _UNCHANGED,
        sha256_of(archive.path),
        lambda shard: ShardImages(archive.read(shard)),
    )
