"""Reference statistics of real images: of a folder of any size, of a data set that comes by name, or of an `.npz`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fpdm.data.config import DataConfig
from fpdm.data.decode import escaped
from fpdm.data.images import ImageSet
from fpdm.data.loading import load_images
from fpdm.data.sources.folder import Skipped, read_images, scan
from fpdm.evaluation.features import Features
from fpdm.evaluation.frechet import GaussianStatistics
from fpdm.evaluation.pretrained import pretrained_extractor
from fpdm.fid.feature_shards import FeatureShards, ShardImages, extract_features
from fpdm.fid.npz import ImageArchive
from fpdm.fid.settings import ALL, ReferenceSettings
from fpdm.fid.statistics import Origin, read_reference, write_reference
from fpdm.files import lock, sha256_of, write_atomically
from fpdm.processes import PATIENCE, processes

_NAMED = 5  # skipped files in the summary


@dataclass(frozen=True)
class MadeReference:
    """A reference.

    Attributes:
        out: The file.
        origin: What it is of.
        dims: Features of an image.
        features: Images whose features are in the file.
        skipped: What could not be read, and why, by path; it is listed in a file beside the reference.
        made: Whether this call made it; else it was there already.
    """

    out: Path
    origin: Origin
    dims: int
    features: int
    skipped: tuple[tuple[str, str], ...]
    made: bool

    def to_text(self) -> str:
        """A few lines."""
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

    def to_json(self) -> str:
        """Every field."""
        return json.dumps({**asdict(self), "out": str(self.out)}, indent=1)


@dataclass(frozen=True)
class _Source:
    """Images that are read some at a time; `fingerprint` is another where they are others."""

    name: str
    count: int
    size: int
    channels: int
    resize: str
    fingerprint: str
    read: Callable[[range], ShardImages]


def make_reference(
    images: str, out: Path, settings: ReferenceSettings, *, root: Path | None = None
) -> MadeReference | None:
    """Write reference statistics; every process that was started takes its share, and the main one has the result.

    A call that was interrupted goes on where it was; what it has made already is not made again.

    Args:
        images: A folder, an `.npz` with `arr_0`, or the name of a data set.
        out: The file to write, `.npz`. While it is made, a folder beside it keeps what is finished.
        settings: Which of the images, and by what features.
        root: Folder with the own files of a data set that comes by name.

    Raises:
        ValueError: No images, fewer than 2, one that cannot be read with `strict`, an extractor that cannot be had, a
            file's name that is no `.npz`, or another process makes this file.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came; finished pieces stay.
    """
    if out.suffix != ".npz":
        raise ValueError(f"--out {out}: expected a file that ends with .npz")
    state = processes(timeout=PATIENCE)
    device = torch.device(state.device or "cpu")
    source = _source(images, settings, root)
    with state.local_main_process_first():  # it may have to download
        extractor = pretrained_extractor(
            settings.extractor, weights=Path(settings.weights) if settings.weights else None, device=device
        )
    fingerprint = hashlib.sha256(f"{source.fingerprint} {extractor.identity}".encode()).hexdigest()
    folder = out.with_name(f"{out.name}.pieces")
    pieces = FeatureShards(folder / "features", source.count, settings.piece_size, fingerprint, extractor.identity)
    with lock(folder) if state.is_main_process else contextlib.nullcontext():
        state.wait_for_everyone()  # until it is held
        found = _finished(out, fingerprint, settings)
        state.wait_for_everyone()  # until all have looked
        if found is None:
            extract_features(pieces, source.read, extractor, batch_size=settings.batch_size, what="features")
            found = _put_together(pieces, source, out, settings) if state.is_main_process else None
    if state.is_main_process:
        with contextlib.suppress(OSError):  # another process has begun
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()
    return found if state.is_main_process else None


def _finished(out: Path, fingerprint: str, settings: ReferenceSettings) -> MadeReference | None:
    """The reference that is there already, if it is of the same images, and nothing else is asked for."""
    try:
        found = read_reference(out)
        listed = _skipped_file(out).read_text(encoding="utf-8") if _skipped_file(out).exists() else ""
    except ValueError:  # there is none, or it is damaged
        return None
    skipped = tuple((path, reason) for path, _, reason in (line.partition("\t") for line in listed.splitlines()))
    kept = len(found.features) if found.features is not None else 0
    origin = found.origin
    if origin is None or found.fingerprint != fingerprint or kept != min(settings.features, origin.images):
        return None
    return None if skipped and settings.strict else MadeReference(out, origin, len(found.mean), kept, skipped, False)


def _put_together(pieces: FeatureShards, source: _Source, out: Path, settings: ReferenceSettings) -> MadeReference:
    """Write the reference, by which it is finished, and take the pieces away."""
    skipped = tuple((path, reason) for notes in pieces.notes() for path, reason in notes.get("skipped", ()))
    try:
        statistics = GaussianStatistics.of_parts(pieces.features())
    except ValueError as error:
        if not skipped:
            raise
        path, reason = skipped[0]
        raise ValueError(f"{error}; {len(skipped)} skipped, the first: {path}: {reason}") from error
    assert statistics.n is not None
    if statistics.n <= statistics.dims:
        warnings.warn(
            f"{statistics.n} images for features of {statistics.dims} dimensions: distances to this reference are far "
            "too large; use more images",
            stacklevel=3,
        )
    extractor, split = pieces.extractor, settings.split
    origin = Origin(source.name, split, statistics.n, source.size, source.channels, source.resize, extractor)
    kept = _spread(pieces, statistics.n, min(settings.features, statistics.n))
    if skipped:
        write_atomically(_skipped_file(out), "".join(f"{path}\t{reason}\n" for path, reason in skipped))
    else:
        _skipped_file(out).unlink(missing_ok=True)  # of another reference
    write_reference(out, statistics, kept, origin, pieces.fingerprint)
    pieces.delete()
    return MadeReference(out, origin, statistics.dims, len(kept.values) if kept else 0, skipped, True)


def _skipped_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}.skipped.txt")


def _spread(pieces: FeatureShards, n: int, count: int) -> Features | None:
    """The features of `count` of the `n` images, spread over all: (count, F)."""
    places = torch.arange(count) * n // max(count, 1)  # (count,)
    chosen, first = [], 0
    for part in pieces.features():
        here = places[(places >= first) & (places < first + len(part.values))]  # (c,)
        if len(here):
            chosen.append(part.values[here - first])  # (c, F)
        first += len(part.values)
    return Features(torch.cat(chosen), pieces.extractor) if chosen else None


def _source(images: str, settings: ReferenceSettings, root: Path | None) -> _Source:
    config = DataConfig(images, size=settings.size, channels=settings.channels, crop=settings.crop)
    path = Path(images)
    if config.is_folder and path.suffix == ".npz":
        return _archive(ImageArchive(path), settings)
    if config.is_folder and not config.is_cache and settings.split == ALL:
        return _folder(path, settings)
    dataset = load_images(config, root=root, strict=settings.strict)
    splits = {name: getattr(dataset.splits, name) for name in ("train", "validation", "test")}
    parts: list[ImageSet] = list(splits.values()) if settings.split == ALL else [splits[settings.split]]
    pixels = torch.cat([part.images for part in parts])  # (N, C, H, W)
    channels, size, _ = parts[0].shape
    fingerprint = f"{dataset.sha256} {settings.split}"
    resize = _RESIZES[config.crop] if config.is_folder else "as they come"
    # A data set's skipped images are those of all splits, so they stand in the first piece.
    skipped = [_noted(one) for one in dataset.summary.skipped] if dataset.summary else []

    def read(piece: range) -> ShardImages:
        return ShardImages(pixels[piece.start : piece.stop], {} if piece.start else {"skipped": skipped})

    return _Source(parts[0].name, len(pixels), size, channels, resize, fingerprint, read)


_RESIZES = {"lanczos": "middle square, Lanczos", "adm": "ADM's halving, bicubic, middle square"}


def _folder(path: Path, settings: ReferenceSettings) -> _Source:
    files = scan(path)
    if settings.strict and files.skipped:
        raise _strict(files.skipped[0])
    digest = hashlib.sha256(f"{settings.size} {settings.channels} {settings.crop}".encode())
    for one in files.paths:
        try:
            status = (files.root / one).stat()
            digest.update(f"{escaped(one)} {status.st_size} {status.st_mtime_ns}\n".encode())
        except OSError:  # gone since; it is skipped where it would be read
            digest.update(f"{escaped(one)}\n".encode())
    passed = [_noted(one) for one in files.skipped]

    def read(piece: range) -> ShardImages:
        found = read_images(files, piece, settings.size, channels=settings.channels, crop=settings.crop)
        bad = [one for one in found if isinstance(one, Skipped)]
        if bad and settings.strict:
            raise _strict(bad[0])
        good = [one for one in found if not isinstance(one, Skipped)]  # of (C, H, W)
        none = np.empty((0, settings.channels, settings.size, settings.size), np.uint8)
        skipped = [*([] if piece.start else passed), *map(_noted, bad)]
        return ShardImages(torch.from_numpy(np.stack(good) if good else none), {"skipped": skipped})  # (B, C, H, W)

    return _Source(
        escaped(path.resolve().name),
        len(files.paths),
        settings.size,
        settings.channels,
        _RESIZES[settings.crop],
        digest.hexdigest(),
        read,
    )


def _archive(archive: ImageArchive, settings: ReferenceSettings) -> _Source:
    count, height, width, channels = archive.shape
    if height != width:
        raise ValueError(f"the images of {archive.path} are {height} x {width}; expected squares")
    if settings.split != ALL:
        raise ValueError(f"split is {settings.split}, but {archive.path} has no splits; leave it out")
    return _Source(
        archive.path.name,
        count,
        height,
        channels,
        "as they come",
        sha256_of(archive.path),
        lambda piece: ShardImages(archive.read(piece)),
    )


def _noted(one: Skipped) -> tuple[str, str]:
    return escaped(one.path), one.reason


def _strict(one: Skipped) -> ValueError:
    return ValueError(f"{escaped(one.path)}: {one.reason}; mend it, take it away, or allow that it is skipped")
