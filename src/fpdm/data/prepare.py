"""Images to latents on disk, by any number of processes, gone on with after any interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import signal
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import torch.distributed as dist
from tqdm.auto import tqdm

from fpdm.autoencoder.vae import VAE
from fpdm.data.config import MANIFEST, CacheSettings, DataConfig, HubSettings
from fpdm.data.decode import Decoder, decoders, escaped
from fpdm.data.images import to_float
from fpdm.data.manifest import Manifest, Plan, Shard, plan_of, read_manifest, shown
from fpdm.data.sources.folder import Skipped
from fpdm.data.sources.streams import Part, Raw, Source, open_source
from fpdm.data.splits import SPLITS
from fpdm.errors import Interrupted
from fpdm.files import lock, sha256_of, write_atomically
from fpdm.processes import PATIENCE
from fpdm.signals import stop_signals

PLAN, SKIPPED = "plan.json", "skipped.txt"
_LIBRARIES = ("torch", "diffusers", "pillow")
_USUAL_STD = (0.5, 2.0)
_MOST_CLASSES = 2**20  # where they are numbers only: all up to the largest are classes


@dataclass(frozen=True)
class Processes:
    """The processes of a preparation, as torchrun or accelerate launch starts them.

    Attributes:
        rank: This one's number.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Processes:
        """Meet the others, if there are any."""
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count > 1 and not dist.is_initialized():
            dist.init_process_group("gloo", timeout=PATIENCE)
        return cls(int(os.environ.get("RANK", 0)), count)

    def meet(self) -> None:
        """Wait for all."""
        if self.count > 1:
            dist.barrier()

    def total(self, encoded: int, seconds: float) -> tuple[int, float]:
        """Wait for all: the images that they have encoded, and the longest that one of them took."""
        images, longest = torch.tensor(encoded), torch.tensor(seconds, dtype=torch.float64)
        if self.count > 1:
            dist.all_reduce(images)
            dist.all_reduce(longest, dist.ReduceOp.MAX)
        return int(images), float(longest)


@dataclass(frozen=True)
class ShardRecord:
    """What became of a shard, in a file beside it; with it, the shard is finished.

    Attributes:
        shard: The file.
        labels: How many images there are of each of the source's numbers.
        mean: Of the latents' values.
        square: Mean square of the same.
        skipped: Names and reasons.
    """

    shard: Shard
    labels: dict[int, int]
    mean: float
    square: float
    skipped: list[Skipped]

    @classmethod
    def read(cls, path: Path, *, verify: bool = True) -> ShardRecord | None:
        """From its file; None if there is no whole one, or, with `verify`, the shard is not what it says."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            shard = Shard(**values["shard"])
            if verify and sha256_of(path.with_name(shard.file)) != shard.sha256:
                return None
            labels = {int(raw): count for raw, count in values["labels"].items()}
            skipped = [Skipped(Path(name), reason) for name, reason in values["skipped"]]
            return cls(shard, labels, values["mean"], values["square"], skipped)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def to_json(self) -> str:
        """Every field."""
        return json.dumps({**asdict(self), "skipped": [[str(name), reason] for name, reason in self.skipped]})


@dataclass(frozen=True)
class Prepared:
    """A finished cache.

    Attributes:
        out: Its folder.
        manifest: What it is.
        encoded: Images that this call encoded, by all processes.
        seconds: What the longest of them took.
        skipped: The first that could not be used.
    """

    out: Path
    manifest: Manifest
    encoded: int
    seconds: float
    skipped: tuple[Skipped, ...]

    def to_text(self) -> str:
        """A few lines for the terminal."""
        found = self.manifest
        shards = {split: shards for split, shards in found.splits.items() if shards}
        parts = ", ".join(f"{sum(shard.images for shard in some)} {split}" for split, some in shards.items())
        classes = f"{len(found.classes)} classes" if found.classes else "no classes"
        lines = [
            f"{self.out}: {found.images} images ({parts}), {classes}",
            f"  latents   {' x '.join(map(str, found.shape))} {found.settings.dtype}, of "
            f"{' x '.join(map(str, found.image_shape))} pixels{', mirrored too' if found.settings.flip else ''}",
            f"  shards    {sum(map(len, shards.values()))}, {found.bytes / 2**20:.1f} MiB",
            f"  values    mean {found.mean:.3f}, standard deviation {found.std:.3f}",
        ]
        if self.encoded:
            rate = self.encoded / max(self.seconds, 1e-9)
            lines.append(f"  encoded   {self.encoded} images in {self.seconds:.0f} s, {rate:.1f} a second")
        else:
            lines.append("  encoded   none: nothing was left to do, and every shard has the SHA-256 that it should")
        if found.skipped:
            lines.append(f"  skipped   {found.skipped}, listed in {self.out / SKIPPED}")
            lines += [f"    {escaped(one.path)}: {one.reason}" for one in self.skipped]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Every field but the shards' hashes."""
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
    """Encode images into a cache; the same call goes on with one that was interrupted, and mends a damaged one.

    A shard is a function of the source, its own number and the arguments: process r of P makes those numbered r, r + P,
    ..., and a shard that was begun by a process that was killed is made again.

    Args:
        config: The images; a folder's `channels` are the autoencoder's.
        autoencoder: What encodes them.
        out: Folder of the cache.
        settings: How they are stored.
        hub: Which images of a hub data set.
        root: Folder with the own files of a data set that comes by name.
        batch_size: Images at once.
        workers: Threads that decode; by default one for each core, 8 at most.
        strict: Raise at the first image that cannot be used.

    Returns:
        What was made; None in all processes but the first.

    Raises:
        ValueError: The source holds no images, the images do not fit the autoencoder, the folder holds another cache
            (the differences are shown) or another process holds it; with `strict`, the first image to skip, or that
            was skipped before.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came; finished shards stay.
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
    source = open_source(config, hub=hub, holdout=settings.holdout, root=root)
    if strict and source.skipped:
        raise ValueError(_strict(config.source, source.skipped[0]))
    plan = _plan(config, source, autoencoder, settings)
    processes = Processes.join()
    main = processes.rank == 0
    if main:
        _check_same(out, plan, source)  # before it is held, so that another's folder stays as it is
    with lock(out) if main else contextlib.nullcontext():
        if main:
            _check_same(out, plan, source)
            _begin(out, plan, source)
        processes.meet()
        if not main:  # which may see other images, on another machine
            _check_same(out, plan, source)
        work = _Work(source, plan, autoencoder, out, processes, batch_size, threads, strict)
        # Only for the work: one that waits for the others would not hear a signal, and there ends by it.
        with stop_signals(at_once=True) as received:
            try:
                work.run()
            except KeyboardInterrupt:
                raise Interrupted(
                    f"stopped by {signal.Signals(received[0]).name}; {out} keeps its finished shards, and the same "
                    "command goes on from them",
                    received[0],
                ) from None
        encoded, seconds = processes.total(work.encoded, work.seconds)
        return _finish(work, encoded, seconds) if main else None


def _plan(config: DataConfig, source: Source, autoencoder: VAE, settings: CacheSettings) -> Plan:
    size = source.size or (config.size, config.size)
    # Of pixels the channels are what they are, of files what the autoencoder takes.
    channels = 1 if source.kind == "named" else config.channels
    image_shape = (channels, *size)
    return Plan(
        config,
        source.kind,
        source.listing,
        image_shape,
        autoencoder.latent_shape(image_shape),
        autoencoder.config,
        settings,
        {name: version(name) for name in _LIBRARIES},
    )


def _check_same(out: Path, plan: Plan, source: Source) -> None:
    path = out / PLAN
    if not path.exists():
        others = [] if not out.exists() else [one.name for one in out.iterdir() if not one.name.startswith(".")]
        if others:
            raise ValueError(f"{out} holds other files ({others[0]}); choose a new or an empty folder")
        return
    before, images = _read_plan(path)
    changed = before.differences(plan)
    if before.listing != plan.listing:
        found = source.count()
        changed.insert(0, f"images: {images or '?'} -> {'others' if images == found else found}")
    if changed:
        raise ValueError(f"{out} holds another cache ({shown(changed)}); choose another folder")


def _read_plan(path: Path) -> tuple[Plan, int | None]:
    """The plan, and how many images the source had."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return plan_of(values), values.get("images")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another folder") from error


def _begin(out: Path, plan: Plan, source: Source) -> None:
    for path in out.iterdir():
        if re.fullmatch(r"\.[0-9a-f]{32}", path.name):  # of `write_atomically`, killed
            path.unlink()
    if not (out / PLAN).exists():
        write_atomically(out / PLAN, json.dumps({**asdict(plan), "images": source.count()}, indent=1))


class _Work:
    """A process's share of a preparation."""

    def __init__(
        self,
        source: Source,
        plan: Plan,
        autoencoder: VAE,
        out: Path,
        processes: Processes,
        batch_size: int,
        threads: contextlib.AbstractContextManager[ThreadPoolExecutor],
        strict: bool,
    ) -> None:
        self.source, self.plan, self.autoencoder, self.out, self.processes = source, plan, autoencoder, out, processes
        self.batch_size, self.threads, self.strict = batch_size, threads, strict
        self.decoder = Decoder(plan.data.size, plan.data.channels, plan.data.crop)
        self.encoded, self.seconds = 0, 0.0

    def run(self) -> None:
        """Make this process's shards that are not there."""
        start = time.perf_counter()
        count = self.source.count()
        bar = tqdm(
            total=None if count is None else count // self.processes.count,
            desc="encoding",
            unit=" images",
            dynamic_ncols=True,
            disable=None if self.processes.rank == 0 else True,
        )
        with bar, self.threads as pool:
            for split, part in self.source.parts.items():
                for number in self._numbers(part):
                    record = ShardRecord.read(self.record(split, number))
                    if record is None:
                        (self.out / MANIFEST).unlink(missing_ok=True)  # until all is well again
                        if not self._make(split, part, number, pool, bar):
                            break
                    elif self.strict and record.skipped:
                        raise ValueError(_strict(self.plan.data.source, record.skipped[0]))
                    else:
                        bar.update(self.plan.settings.shard_size)
        self.seconds = time.perf_counter() - start

    def record(self, split: str, number: int) -> Path:
        """Where a shard's record is."""
        return self.out / f"{split}-{number:05d}.json"

    def _numbers(self, part: Part) -> Iterator[int]:
        count, first, by = part.count(), self.processes.rank, self.processes.count
        if count is None:
            return itertools.count(first, by)
        return iter(range(first, math.ceil(count / self.plan.settings.shard_size), by))

    def _make(self, split: str, part: Part, number: int, pool: ThreadPoolExecutor, bar: tqdm) -> bool:
        """Encode and write a shard; False if the source has ended before it."""
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

        for raw, found in self._decoded(part.read(number * size, (number + 1) * size), pool):
            reason = found if isinstance(found, str) else self._wrong_label(raw)
            if reason:
                self._skip(skipped, raw, reason)
            else:
                batch.append((raw, found))  # type: ignore[arg-type]
            if len(batch) == self.batch_size:
                flush()
        flush()
        if raw is None:
            return False
        empty = np.empty((0, 1 + self.plan.settings.flip, 2, *self.plan.shape), self.plan.settings.dtype)
        self._write(self.record(split, number), np.concatenate([empty, *moments]), labels, skipped)
        return True

    def _decoded(self, raws: Iterator[Raw], pool: ThreadPoolExecutor) -> Iterator[tuple[Raw, np.ndarray | str]]:
        """In order, a few batches ahead and no more: what is decoded waits in memory."""
        waiting: deque[tuple[Raw, Future[np.ndarray | str]]] = deque()
        for raw in raws:
            waiting.append((raw, pool.submit(self._pixels, raw)))
            if len(waiting) > 2 * self.batch_size:
                first, future = waiting.popleft()
                yield first, future.result()
        for raw, future in waiting:
            yield raw, future.result()

    def _pixels(self, raw: Raw) -> np.ndarray | str:
        if isinstance(raw.image, np.ndarray):
            return raw.image
        found = self.decoder(raw.image)
        return found if isinstance(found, str) else found.pixels

    def _wrong_label(self, raw: Raw) -> str:
        classes = len(self.source.classes) or _MOST_CLASSES
        return "" if 0 <= raw.label < classes else f"its label {raw.label} is out of range; expected 0 to {classes - 1}"

    def _skip(self, skipped: list[Skipped], raw: Raw, reason: str) -> None:
        skipped.append(Skipped(Path(raw.name), reason))
        if self.strict:
            raise ValueError(_strict(self.plan.data.source, skipped[-1]))

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        """(B, C, H, W) uint8 to (B, V, 2, c, h, w)."""
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
        write_atomically(record, made.to_json())


def _finish(work: _Work, encoded: int, seconds: float) -> Prepared:
    """Write the manifest, by which the cache is finished; it is the same each time, so that runs know it again."""
    out, source = work.out, work.source
    plan, _ = _read_plan(out / PLAN)  # and not the call's: the images may have moved since
    records = {split: [*_records(work, split, part)] for split, part in source.parts.items()}
    every = [record for split in records for record in records[split]]
    skipped = sorted(
        [*source.skipped, *(one for record in every for one in record.skipped)], key=lambda one: one.path.parts
    )
    if not any(record.shard.images for record in records["train"]):
        first = f"; the first: {escaped(skipped[0].path)}: {skipped[0].reason}" if skipped else ""
        raise ValueError(f"no image of {plan.data.source} can be used ({len(skipped)} skipped){first}")
    counts = sum((Counter(record.labels) for record in every), Counter())
    labels = [*range(max(len(source.classes), max(counts) + 1))] if source.fixed else sorted(counts)
    labels = labels if source.labelled else []
    images = sum(record.shard.images for record in records["train"])
    mean = sum(record.mean * record.shard.images for record in records["train"]) / images
    square = sum(record.square * record.shard.images for record in records["train"]) / images
    manifest = Manifest(
        **vars(plan),
        classes=tuple(source.classes[label] if source.classes else str(label) for label in labels),
        labels=tuple(labels),
        splits={split: tuple(record.shard for record in records.get(split, ())) for split in SPLITS},
        mean=mean,
        std=math.sqrt(max(square - mean**2, 0.0)),
        skipped=len(skipped),
    )
    if skipped:
        lines = [f"{escaped(one.path)}\t{one.reason}\n" for one in skipped]
        write_atomically(out / SKIPPED, "".join(lines))
    if not (out / MANIFEST).exists() or (out / MANIFEST).read_bytes() != manifest.to_json().encode():
        write_atomically(out / MANIFEST, manifest.to_json())
    if not _USUAL_STD[0] < manifest.std < _USUAL_STD[1]:
        warnings.warn(
            f"the latents' standard deviation is {manifest.std:.3g}, and diffusion expects about 1: the autoencoder's "
            "scaling_factor does not suit these images",
            RuntimeWarning,
            stacklevel=2,
        )
    return Prepared(out, read_manifest(out), encoded, seconds, tuple(skipped[:5]))


def _records(work: _Work, split: str, part: Part) -> Iterator[ShardRecord]:
    count = part.count()
    for number in itertools.count():
        if count is not None and number * work.plan.settings.shard_size >= count:
            return
        record = ShardRecord.read(work.record(split, number), verify=False)  # as its process has done
        if record is None:
            assert count is None, "a shard vanished"
            return
        yield record


def _strict(source: str, skipped: Skipped) -> str:
    return f"{escaped(source)}: {escaped(skipped.path)}: {skipped.reason}; mend it, take it away, or leave out --strict"
