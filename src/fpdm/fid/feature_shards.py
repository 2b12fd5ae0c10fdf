"""Compute features of many images by many processes, in shards on disk that survive a kill.

A shard is a range of images. It does not matter which process makes it, and results are put together in the order of
the shards, so they are the same for any number of processes, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fpdm.configuration import parse_json
from fpdm.errors import Interrupted
from fpdm.evaluation.features import Features
from fpdm.files import check_regular, write_atomically
from fpdm.processes import any_process, processes
from fpdm.progress_bar import progress_bar
from fpdm.signals import stop_signals

_SHARD_BYTES = 2**28  # of images at once


def shard_size(piece_size: int, image: tuple[int, int, int]) -> int:
    """Return how many images (C, H, W) uint8 a shard has: `piece_size`, or fewer if these are too large to be held."""
    return min(piece_size, max(1, _SHARD_BYTES // math.prod(image)))


@dataclass(frozen=True, eq=False)
class ShardImages:
    """The images of a shard.

    Attributes:
        images: (B, C, H, W) uint8; fewer than the shard's range if some images of the source are bad.
        notes: Anything else to keep with the shard, as JSON.
    """

    images: Tensor
    notes: dict[str, Any] = field(default_factory=dict)


class FeatureExtractor(Protocol):
    """Anything that computes features of images, such as `PretrainedExtractor`."""

    @property
    def identity(self) -> str:
        """Identifies the extractor, as in `Features.extractor`."""
        ...

    def features(self, images: Tensor, batch_size: int) -> Features:
        """Compute features (B, F) of images (B, C, H, W) uint8, `batch_size` at a time."""
        ...


@dataclass(frozen=True)
class FeatureShards:
    """A folder of shards. The caller ensures that only one evaluation or reference writes to it at a time.

    Attributes:
        folder: The folder.
        count: Number of images in all shards together.
        size: Number of images per shard; the last may be shorter.
        fingerprint: Hash of everything that the images and features depend on. Shards with another one are ignored.
        extractor: `Features.extractor` of the features.
        with_images: Whether the shards hold the images too.
    """

    folder: Path
    count: int
    size: int
    fingerprint: str
    extractor: str
    with_images: bool = False

    @property
    def ranges(self) -> list[range]:
        """The range of image indices of each shard, in order."""
        return [range(start, min(start + self.size, self.count)) for start in range(0, self.count, self.size)]

    def missing(self) -> list[range]:
        """Return the shards that do not exist yet, are damaged, or belong to another fingerprint."""
        return [shard for shard in self.ranges if not self._is_whole(self._path(shard))]

    def images_done(self) -> int:
        """Return the number of images in the shard files that exist."""
        return sum(len(shard) for shard in self.ranges if self._path(shard).exists())

    def save(self, shard: range, made: ShardImages, features: Tensor) -> None:
        """Write a shard: its features (B, F), and its images if `with_images`."""
        tensors = {"features": features.float()}
        if self.with_images:
            tensors["images"] = made.images.contiguous()
        notes = json.dumps(made.notes)
        about = {"fingerprint": self.fingerprint, "notes": notes, "sha256": _sha256(tensors, notes)}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(shard), safetensors.torch.save(tensors, about))

    def features(self) -> Iterator[Features]:
        """Yield the features (B, F) of each shard in order.

        Raises:
            ValueError: A shard is missing or has another fingerprint. `images` and `notes` raise it too.
        """
        for shard in self.ranges:
            with self._open(shard) as file:
                yield Features(file.get_tensor("features").double(), self.extractor)

    def images(self) -> Iterator[Tensor]:
        """Yield the images (B, C, H, W) uint8 of each shard in order."""
        for shard in self.ranges:
            with self._open(shard) as file:
                yield file.get_tensor("images")

    def notes(self) -> list[dict[str, Any]]:
        """Return the notes of each shard in order."""
        found = []
        for shard in self.ranges:
            with self._open(shard) as file:
                found.append(parse_json(file.metadata()["notes"], "its notes"))
        return found

    def delete(self) -> None:
        """Delete the folder, if there is one."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _path(self, shard: range) -> Path:
        return self.folder / f"{shard.start:09d}-{shard.stop:09d}.safetensors"

    def _open(self, shard: range) -> Any:
        path = self._path(shard)
        try:
            check_regular(path)
            file = safetensors.safe_open(path, "pt")
            if (file.metadata() or {}).get("fingerprint") == self.fingerprint:
                return file
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path} cannot be read: {error}; give the same command again to make it anew") from error
        raise ValueError(
            f"{path} holds other images or features than the shards beside it: another command wrote to {self.folder} "
            "at the same time; let one finish before the next starts, and give the same command again"
        )

    def _is_whole(self, path: Path) -> bool:
        try:
            check_regular(path)
            with safetensors.safe_open(path, "pt") as file:  # refuses a file of another length than its header says
                about = file.metadata() or {}
                if about.get("fingerprint") != self.fingerprint:
                    return False
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, SafetensorError):
            return False
        whole = about.get("sha256") == _sha256(tensors, about.get("notes", ""))
        return whole and (not self.with_images or "images" in tensors)


def _sha256(tensors: dict[str, Tensor], notes: str) -> str:
    """Hash everything in a shard: a flipped bit would change a result without anyone noticing."""
    digest = hashlib.sha256(notes.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def extract_features(
    shards: FeatureShards,
    make_images: Callable[[range], ShardImages],
    extractor: FeatureExtractor,
    *,
    batch_size: int,
    what: str,
) -> None:
    """Make the missing shards. Every process takes its share, and returns when all shards exist.

    Args:
        shards: Where the features go.
        make_images: Returns the images of a shard.
        extractor: Computes the features.
        batch_size: Number of images that go through the extractor at once.
        what: Label of the progress bar.

    Raises:
        Interrupted: A process received SIGINT, SIGTERM or SIGUSR1. Finished shards are kept.
    """
    state = processes()
    missing = shards.missing()
    state.wait_for_everyone()  # so that all processes divide the same list: none has made anything yet
    found = shards.count - sum(map(len, missing))
    bar = progress_bar(what, shards.count, "images", initial=found, leave=True, shown=state.is_main_process)
    with stop_signals() as received, bar as shown:
        for shard in missing[state.process_index :: state.num_processes]:
            if received:
                break
            with shown.step(len(shard)):
                made = make_images(shard)
                features = extractor.features(made.images, batch_size).values if len(made.images) else torch.empty(0, 0)
                shards.save(shard, made, features)  # (B, F)
            shown.set(shards.images_done())  # those of the other processes too
        stopped = any_process(bool(received))  # every process waits for the others here
    if stopped:
        number = received[0] if received else signal.SIGTERM
        raise Interrupted(
            f"stopped by {signal.Signals(number).name}; {shards.folder} keeps the finished shards, and the same "
            "command continues from them",
            number,
        )
