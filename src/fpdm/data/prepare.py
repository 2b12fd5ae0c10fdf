"""Encode images into an on-disk latent cache; resumable and parallel."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from fpdm.autoencoder.vae import VAE
from fpdm.configuration import moves, warn_of_moves
from fpdm.data.config import MANIFEST, CacheSettings, DataConfig, HubSettings
from fpdm.data.decode import Decoder, decoders
from fpdm.data.images import to_float
from fpdm.data.labels import warn_of_look_alikes
from fpdm.data.manifest import CACHE, PLACES, PLAN, CachePlan, Manifest, Shard, cache_plan, read_manifest, shown
from fpdm.data.sources.open import open_source
from fpdm.data.sources.source import Part, Raw, Skipped, Source, check_most_readable, unusable, write_skipped
from fpdm.data.splits import SPLITS, counted, listed
from fpdm.errors import Interrupted
from fpdm.files import read_json, sha256_of, write_atomically, write_json
from fpdm.memory import check_memory
from fpdm.processes import PATIENCE, gather, processes
from fpdm.progress_bar import ProgressBar, progress_bar
from fpdm.signals import stop_signals

SKIPPED = "skipped.txt"
_LIBRARIES = ("torch", "diffusers", "pillow")
_USUAL_STD = (0.5, 2.0)


@dataclass(frozen=True)
class ShardRecord:
    """Record of a shard, in a JSON file beside it. A shard is finished once its record exists.

    Attributes:
        shard: The shard's file.
        labels: Number of images of each of the source's class numbers.
        mean: Mean of the latents' values.
        square: Mean square of the latents' values.
        skipped: Images that could not be used, and why.
    """

    shard: Shard
    labels: dict[int, int]
    mean: float
    square: float
    skipped: list[Skipped]

    @classmethod
    def read(cls, path: Path, *, verify: bool = True) -> ShardRecord | None:
        """Read a record; None if there is none, it is damaged or, with `verify`, the shard's SHA-256 is another."""
        try:
            values = read_json(path)
            # The records of earlier versions have no hash of themselves.
            if values.pop("sha256", None) not in (None, _sha256(values)) or values.keys() != _RECORD_FIELDS:
                return None
            shard = Shard(**values["shard"])
            if verify and sha256_of(path.with_name(shard.file)) != shard.sha256:
                return None
            labels = {int(raw): count for raw, count in values["labels"].items()}
            skipped = [Skipped(Path(name), reason) for name, reason in values["skipped"]]
            return cls(shard, labels, values["mean"], values["square"], skipped)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def to_json(self) -> str:
        """Return all fields, and the SHA-256 of their JSON, as JSON."""
        values = {**asdict(self), "skipped": [[str(name), reason] for name, reason in self.skipped]}
        return json.dumps({**values, "sha256": _sha256(values)})


_RECORD_FIELDS = {field.name for field in dataclasses.fields(ShardRecord)}


def _sha256(values: dict[str, Any]) -> str:
    """Return the SHA-256 of values as JSON, which is the same once they were written and read."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(values)), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """A finished cache.

    Attributes:
        out: Its folder.
        manifest: Its manifest.
        encoded: Number of images that all processes of this call encoded.
        seconds: Time that the slowest of them took.
        skipped: The first images that could not be used.
    """

    out: Path
    manifest: Manifest
    encoded: int
    seconds: float
    skipped: tuple[Skipped, ...]

    def to_text(self) -> str:
        """Return a few lines for the terminal."""
        found = self.manifest
        shards = {split: shards for split, shards in found.splits.items() if shards}
        parts = ", ".join(f"{sum(shard.images for shard in some)} {split}" for split, some in shards.items())
        classes = f"{counted(len(found.classes), 'class')} ({listed(found.classes)})" if found.classes else "no classes"
        lines = [
            f"{self.out}: {found.images} images ({parts}), {classes}",
            f"  latents   {' x '.join(map(str, found.shape))} {found.settings.dtype}, of "
            f"{' x '.join(map(str, found.image_shape))} pixels{', mirrored too' if found.settings.flip else ''}",
            f"  shards    {sum(map(len, shards.values()))}, {found.bytes / 2**20:.1f} MiB",
            f"  values    mean {found.mean:.3f}, standard deviation {found.std:.3f}",
        ]
        if self.encoded:
            rate = self.encoded / max(self.seconds, 1e-9)
            lines.append(f"  encoded   {self.encoded} images in {self.seconds:.0f} s, {rate:.1f} images/s")
        else:
            lines.append("  encoded   none: nothing was left to do, and the SHA-256 of every shard is right")
        if found.skipped:
            lines.append(f"  skipped   {found.skipped}, listed in {self.out / SKIPPED}")
            lines += [f"    {one.to_text()}" for one in self.skipped]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return all fields as JSON, without the shards."""
        found = self.manifest
        values = {"out": str(self.out), "images": found.images, "bytes": found.bytes, "skipped": found.skipped}
        values |= {"mean": found.mean, "std": found.std, "encoded": self.encoded, "seconds": self.seconds}
        return json.dumps({**values, "shape": found.shape, "classes": found.classes, "sha256": found.sha256}, indent=1)


def prepare(
    config: DataConfig,
    autoencoder: VAE,
    out: Path,
    settings: CacheSettings | None = None,
    *,
    hub: HubSettings | None = None,
    root: Path | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    strict: bool = False,
) -> Prepared | None:
    """Encode images into a cache. The same call resumes an interrupted one, and repairs a damaged cache.

    A shard is a function of the source, its own number and the arguments. Process r of P makes the shards r, r + P,
    ..., and makes those again that a killed process left unfinished.

    Args:
        config: The images; the `channels` of a folder are those of the autoencoder.
        autoencoder: The encoder.
        out: Folder of the cache.
        settings: How latents are stored, and which images are kept from training.
        hub: Which images of a hub data set.
        root: Folder with the files of a named data set.
        batch_size: Number of images that are encoded at once.
        workers: Number of threads that decode; by default one per core, at most 8.
        strict: Raise if anything would be skipped.

    Returns:
        The finished cache; None in all processes but the first.

    Raises:
        ValueError: The source holds no images, most of them cannot be used, they do not fit the autoencoder, the folder
            holds another cache (the differences are shown), or another process is writing to it; with `strict`,
            anything is skipped, or was by an earlier call.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 arrived; finished shards stay.
    """
    settings, hub = settings or CacheSettings(), hub or HubSettings()
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
    threads = decoders(workers)
    config = (
        dataclasses.replace(config, channels=autoencoder.image_channels)
        if config.is_folder
        else DataConfig(config.source)
    )
    source = open_source(config, hub=hub, holdout=settings.holdout, root=root, strict=strict)
    if source.kind != "folder" and settings.holdout is None:  # only a folder has a choice
        settings = dataclasses.replace(settings, holdout=0)
    plan = _made_by(out, _plan(config, source, autoencoder, settings))
    _check_fits(plan, source, batch_size)
    # They exchange a few numbers only, and two of them may share a GPU, which NCCL refuses.
    state = processes(timeout=PATIENCE, cpu=True)
    main = state.is_main_process
    if main:
        _check_same(out, plan, source)  # before it is locked, so that the folder of another cache stays as it is
    with CACHE.hold(out) if main else contextlib.nullcontext():
        if main:
            warn_of_moves(_check_same(out, plan, source))
            _begin(out, plan, source)
        state.wait_for_everyone()
        if not main:  # on another machine it may see other images
            _check_same(out, plan, source)
        share = state.process_index, state.num_processes
        work = _Work(source, plan, autoencoder, out, share, batch_size, threads, strict)
        # Only around the work: while waiting for the others, a process is ended by the signal itself.
        with stop_signals(at_once=True) as received:
            try:
                work.run()
            except KeyboardInterrupt:
                raise Interrupted(
                    f"stopped by {signal.Signals(received[0]).name}; {out} keeps its finished shards, and the same "
                    "command resumes from them",
                    received[0],
                ) from None
        done = gather([work.encoded, work.seconds])  # (P, 2)
        return _finish(work, int(done[:, 0].sum()), float(done[:, 1].max())) if main else None


def _plan(config: DataConfig, source: Source, autoencoder: VAE, settings: CacheSettings) -> CachePlan:
    image_shape = source.shape or (config.channels, config.size, config.size)
    return CachePlan(
        config,
        source.kind,
        source.listing,
        image_shape,
        autoencoder.latent_shape(image_shape),
        autoencoder.config,
        settings,
        {name: version(name) for name in _LIBRARIES},
    )


def _made_by(out: Path, plan: CachePlan) -> CachePlan:
    """Give a plan the library versions of the finished cache in a folder, which later versions do not change."""
    try:
        return dataclasses.replace(plan, versions=read_manifest(out).versions)
    except ValueError:  # none is finished there
        return plan


def _check_fits(plan: CachePlan, source: Source, batch_size: int) -> None:
    """Raise if a batch of images, or the latents of a shard, do not fit in memory, counted low."""
    channels, *sides = plan.image_shape
    pad, largest = plan.autoencoder.pad or 0, max(part.count() or 1 for part in source.parts.values())  # or a stream
    held = min(plan.settings.shard_size, largest)
    at_once = min(batch_size, held)
    pixels = channels * math.prod(side + 2 * pad for side in sides)
    what, instead = f"encoding {counted(at_once, 'image')} at once", "a smaller --batch-size, --size or --pad"
    check_memory(4 * pixels * at_once, what, instead)
    numbers = (4 if plan.settings.flip else 2) * math.prod(plan.shape) * held  # mean and standard deviation
    needed = numbers * np.dtype(plan.settings.dtype).itemsize
    check_memory(needed, f"a shard of the latents of {counted(held, 'image')}", "a smaller --shard-size")


def _check_same(out: Path, plan: CachePlan, source: Source) -> list[str]:
    """Raise if the folder holds another cache; return what has moved since it was begun."""
    path = out / PLAN
    if not path.exists():
        CACHE.check(out)
        return []
    before, images = _read_plan(path)
    changed = before.differences(plan)
    if before.listing != plan.listing:
        found = source.count()
        changed.insert(0, f"images: {images or '?'} -> {'others' if images == found else found}")
    if changed:
        older = plan.settings.holdout is None and before.settings.holdout == 0
        also = ", or resume a cache that is trained on all images with --holdout 0" if older else ""
        raise ValueError(f"{out} holds another cache ({shown(changed)}); choose another folder{also}")
    return moves(before, plan, PLACES)


def _read_plan(path: Path) -> tuple[CachePlan, int | None]:
    """Return the plan, and how many images the source had."""
    values = read_json(path)
    try:
        return cache_plan(values), values.get("images")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another folder") from error


def _begin(out: Path, plan: CachePlan, source: Source) -> None:
    if not (out / PLAN).exists():
        write_json(out / PLAN, {**asdict(plan), "images": source.count()})


class _Work:
    """The share of one process in a preparation."""

    def __init__(
        self,
        source: Source,
        plan: CachePlan,
        autoencoder: VAE,
        out: Path,
        share: tuple[int, int],
        batch_size: int,
        threads: contextlib.AbstractContextManager[ThreadPoolExecutor],
        strict: bool,
    ) -> None:
        self.source, self.plan, self.autoencoder, self.out = source, plan, autoencoder, out
        self.rank, self.processes = share
        self.batch_size, self.threads, self.strict = batch_size, threads, strict
        self.decoder = Decoder(plan.data.size, plan.data.channels, plan.data.crop)
        self.encoded, self.seconds = 0, 0.0

    def run(self) -> None:
        """Make the shards of this process that are not finished."""
        start = time.perf_counter()
        count = self.source.count()
        total = None if count is None else count // self.processes
        shown = progress_bar("encoding", total, "images", leave=True, shown=self.rank == 0)
        with shown as bar, self.threads as pool:
            for split, part in self.source.parts.items():
                for number in self._numbers(part):
                    record = ShardRecord.read(self.record(split, number))
                    if record is None:
                        (self.out / MANIFEST).unlink(missing_ok=True)  # until all shards are finished again
                        if not self._make(split, part, number, pool, bar):
                            break
                    elif self.strict and record.skipped:
                        raise unusable(self.plan.data.source, record.skipped[0])
                    else:
                        bar.skip(self.plan.settings.shard_size)
        self.seconds = time.perf_counter() - start

    def record(self, split: str, number: int) -> Path:
        """Return the path of a shard's record."""
        return self.out / f"{split}-{number:05d}.json"

    def _numbers(self, part: Part) -> Iterator[int]:
        count = part.count()
        if count is None:
            return itertools.count(self.rank, self.processes)
        return iter(range(self.rank, math.ceil(count / self.plan.settings.shard_size), self.processes))

    def _make(self, split: str, part: Part, number: int, pool: ThreadPoolExecutor, bar: ProgressBar) -> bool:
        """Encode and write a shard; False if the source ends before it."""
        size = self.plan.settings.shard_size
        moments: list[np.ndarray] = []
        labels: list[int] = []
        skipped: list[Skipped] = []
        batch: list[tuple[Raw, np.ndarray]] = []
        raw = None

        def flush() -> None:
            if not batch:
                return
            found = self._encode(np.stack([pixels for _, pixels in batch]))  # (B, V, 2, c, h, w)
            finite = [bool(np.isfinite(one).all()) for one in found]  # (B,)
            for (one, _), good in zip(batch, finite, strict=True):
                if good:
                    labels.append(one.label)
                else:
                    self._skip(skipped, one, "its latent is not finite")
            moments.append(found[finite])
            bar.update(len(batch))
            self.encoded += len(batch)
            batch.clear()

        images = part.decode(number * size, (number + 1) * size, self.decoder, pool, ahead=2 * self.batch_size)
        for raw, found in images:
            reason = found if isinstance(found, str) else self.source.label_error(raw.label)
            if reason:
                self._skip(skipped, raw, reason)
            else:
                batch.append((raw, found.pixels))  # type: ignore[union-attr]
            if len(batch) == self.batch_size:
                flush()
        flush()
        if raw is None:
            return False
        empty = np.empty((0, 1 + self.plan.settings.flip, 2, *self.plan.shape), self.plan.settings.dtype)
        self._write(self.record(split, number), np.concatenate([empty, *moments]), labels, skipped)
        return True

    def _skip(self, skipped: list[Skipped], raw: Raw, reason: str) -> None:
        skipped.append(Skipped(Path(raw.name), reason))
        if self.strict:
            raise unusable(self.plan.data.source, skipped[-1])

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encode pixels (B, C, H, W) uint8 to moments (B, V, 2, c, h, w)."""
        device = next(self.autoencoder.model.parameters()).device
        images = to_float(torch.from_numpy(pixels).to(device))  # (B, C, H, W)
        variants = [images, images.flip(-1)] if self.plan.settings.flip else [images]
        encoded = [torch.stack(self.autoencoder.encode(one), dim=1) for one in variants]  # V of (B, 2, c, h, w)
        dtype = getattr(torch, self.plan.settings.dtype)
        return torch.stack(encoded, dim=1).to(dtype).cpu().numpy()  # (B, V, 2, c, h, w)

    def _write(self, record: Path, moments: np.ndarray, labels: list[int], skipped: list[Skipped]) -> None:
        content = safetensors.numpy.save({"moments": moments, "labels": np.array(labels, np.int64)})
        shard = Shard(f"{record.stem}.safetensors", len(labels), len(content), hashlib.sha256(content).hexdigest())
        mean, std = moments[:, 0].astype(np.float64).swapaxes(0, 1)  # (n, c, h, w) each
        square = float((mean**2 + std**2).mean()) if labels else 0.0
        write_atomically(self.out / shard.file, content)
        made = ShardRecord(shard, dict(Counter(labels)), float(mean.mean()) if labels else 0.0, square, skipped)
        write_json(record, made.to_json())


def _finish(work: _Work, encoded: int, seconds: float) -> Prepared:
    """Write the manifest, which finishes the cache; it is always the same, so that runs recognise it."""
    out, source = work.out, work.source
    plan, _ = _read_plan(out / PLAN)  # and not that of this call: the images may have moved since
    records = {split: [*_records(work, split, part)] for split, part in source.parts.items()}
    every = [record for split in records for record in records[split]]
    skipped = sorted(
        [*source.skipped, *(one for record in every for one in record.skipped)], key=lambda one: one.path.parts
    )
    if not any(record.shard.images for record in records["train"]):
        for record in every:  # empty shards, which are no reason to keep a folder
            if not record.shard.images:
                path = out / record.shard.file
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)
        first = f"; the first: {skipped[0].to_text()}" if skipped else ""
        raise ValueError(f"no image of {work.plan.data.source} can be used ({len(skipped)} skipped){first}")
    unreadable = [one for record in every for one in record.skipped]
    if unreadable:
        count = len(unreadable) + sum(record.shard.images for record in every)
        check_most_readable(len(unreadable), count, plan.data.source, unreadable[0].to_text())
    classes = source.used_classes(sum((Counter(record.labels) for record in every), Counter()))
    warn_of_look_alikes(tuple(classes.values()))
    images = sum(record.shard.images for record in records["train"])
    mean = sum(record.mean * record.shard.images for record in records["train"]) / images
    square = sum(record.square * record.shard.images for record in records["train"]) / images
    manifest = Manifest(
        **vars(plan),
        classes=tuple(classes.values()),
        labels=tuple(classes),
        numbered=source.numbered,
        splits={split: tuple(record.shard for record in records.get(split, ())) for split in SPLITS},
        mean=mean,
        std=math.sqrt(max(square - mean**2, 0.0)),
        skipped=len(skipped),
    )
    if skipped:
        write_skipped(skipped, out / SKIPPED)
    if not _is_written(out, manifest):
        write_json(out / MANIFEST, manifest.to_json())
    if not _USUAL_STD[0] < manifest.std < _USUAL_STD[1]:
        warnings.warn(
            f"the latents' standard deviation is {manifest.std:.3g}, and diffusion expects about 1: the autoencoder's "
            "scaling_factor does not suit these images",
            RuntimeWarning,
            stacklevel=2,
        )
    return Prepared(out, read_manifest(out), encoded, seconds, tuple(skipped[:5]))


def _is_written(out: Path, manifest: Manifest) -> bool:
    """Whether the folder has this manifest, by whose hash runs know the cache.

    Earlier versions hashed otherwise and did not say whether labels are the data's own numbers. Such a manifest stays
    as it is, because runs that are not finished know the cache by it.
    """
    try:
        return dataclasses.replace(read_manifest(out), sha256="", numbered=manifest.numbered) == manifest
    except ValueError:  # there is none, or it is damaged
        return False


def _records(work: _Work, split: str, part: Part) -> Iterator[ShardRecord]:
    count = part.count()
    for number in itertools.count():
        if count is not None and number * work.plan.settings.shard_size >= count:
            return
        record = ShardRecord.read(work.record(split, number), verify=False)  # its process has verified it
        if record is None:
            assert count is None, "a shard vanished"
            return
        yield record
