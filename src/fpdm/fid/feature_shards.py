"""Features of many images by many processes, in pieces that are files: what is finished survives a kill.

A piece is a range of images. Which process makes it changes nothing, and results are put together in the pieces' order:
they are the same whatever the number of processes, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
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
from tqdm.auto import tqdm

from fpdm.errors import Interrupted
from fpdm.evaluation.features import Features
from fpdm.files import write_atomically
from fpdm.processes import any_process, processes
from fpdm.signals import stop_signals


@dataclass(frozen=True, eq=False)
class Made:
    """The images of a piece.

    Attributes:
        images: (B, C, H, W) uint8; fewer than the piece's range where a source has bad ones.
        notes: What else is to be kept of the piece, as JSON holds it.
    """

    images: Tensor
    notes: dict[str, Any] = field(default_factory=dict)


class FeatureExtractor(Protocol):
    """What features come from; `PretrainedExtractor` is one."""

    @property
    def identity(self) -> str:
        """As `Features.extractor`."""
        ...

    def features(self, images: Tensor, batch_size: int) -> Features:
        """Of (B, C, H, W) uint8, `batch_size` at a time: (B, F)."""
        ...


@dataclass(frozen=True)
class Pieces:
    """A folder of pieces. Only one evaluation or reference at a time may write to it, which its owner sees to.

    Attributes:
        folder: Where they lie.
        count: Images, from 0 on, in all pieces.
        size: Images of a piece; the last may be shorter.
        fingerprint: Of everything that the images and features depend on; a piece of another one does not count.
        extractor: `Features.extractor` of the features.
        with_images: Whether the pieces hold the images too.
    """

    folder: Path
    count: int
    size: int
    fingerprint: str
    extractor: str
    with_images: bool = False

    @property
    def all(self) -> list[range]:
        """The pieces, in order."""
        return [range(start, min(start + self.size, self.count)) for start in range(0, self.count, self.size)]

    def missing(self) -> list[range]:
        """Those that are not there yet, or not whole."""
        return [piece for piece in self.all if not self._usable(self._path(piece))]

    def done(self) -> int:
        """Images in the pieces' files that are there."""
        return sum(len(piece) for piece in self.all if self._path(piece).exists())

    def save(self, piece: range, made: Made, features: Tensor) -> None:
        """Keep a piece: its features (B, F), and its images if they are wanted."""
        tensors = {"features": features.float()}
        if self.with_images:
            tensors["images"] = made.images.contiguous()
        notes = json.dumps(made.notes)
        about = {"fingerprint": self.fingerprint, "notes": notes, "sha256": _sha256(tensors, notes)}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(piece), safetensors.torch.save(tensors, about))

    def features(self) -> Iterator[Features]:
        """Of each piece in order, (B, F).

        Raises:
            ValueError: A piece is gone, or of another fingerprint, as in `images` and `notes`.
        """
        for piece in self.all:
            with self._open(piece) as file:
                yield Features(file.get_tensor("features").double(), self.extractor)

    def images(self) -> Iterator[Tensor]:
        """Of each piece in order, (B, C, H, W) uint8."""
        for piece in self.all:
            with self._open(piece) as file:
                yield file.get_tensor("images")

    def notes(self) -> list[dict[str, Any]]:
        """Of each piece in order."""
        found = []
        for piece in self.all:
            with self._open(piece) as file:
                found.append(json.loads(file.metadata()["notes"]))
        return found

    def delete(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.folder)

    def _path(self, piece: range) -> Path:
        return self.folder / f"{piece.start:09d}-{piece.stop:09d}.safetensors"

    def _open(self, piece: range) -> Any:
        path = self._path(piece)
        try:
            file = safetensors.safe_open(path, "pt")
            if (file.metadata() or {}).get("fingerprint") == self.fingerprint:
                return file
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} cannot be read: {error}; give the same command again to make it anew") from error
        raise ValueError(
            f"{path} is of other images or features than the pieces beside it: another command wrote to {self.folder} "
            "meanwhile; let one end before the next begins, and give the same command again"
        )

    def _usable(self, path: Path) -> bool:
        try:
            with safetensors.safe_open(path, "pt") as file:  # refuses a file whose length is not what its head says
                about = file.metadata() or {}
                if about.get("fingerprint") != self.fingerprint:
                    return False
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return False
        whole = about.get("sha256") == _sha256(tensors, about.get("notes", ""))
        return whole and (not self.with_images or "images" in tensors)


def _sha256(tensors: dict[str, Tensor], notes: str) -> str:
    """Of all that a piece holds: a flipped bit would move a figure, and nobody would see it."""
    digest = hashlib.sha256(notes.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def collect(
    pieces: Pieces,
    make: Callable[[range], Made],
    extractor: FeatureExtractor,
    *,
    batch_size: int,
    what: str,
) -> None:
    """Make the pieces that are missing; every process that was started takes its share, and returns when all are there.

    Args:
        pieces: Where they go.
        make: The images of a piece.
        extractor: What features come from.
        batch_size: Images that go through the extractor at once.
        what: For the progress bar.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came to a process; the pieces that are finished stay.
    """
    state = processes()
    missing = pieces.missing()
    state.wait_for_everyone()  # so that all share out the same list: nobody has made anything since
    bar = tqdm(
        total=pieces.count,
        initial=pieces.count - sum(map(len, missing)),
        desc=what,
        unit=" images",
        dynamic_ncols=True,
        disable=None if state.is_main_process else True,
    )
    with stop_signals() as received, bar:
        for piece in missing[state.process_index :: state.num_processes]:
            if received:
                break
            made = make(piece)
            features = extractor.features(made.images, batch_size).values if len(made.images) else torch.empty(0, 0)
            pieces.save(piece, made, features)  # (B, F)
            bar.update(max(pieces.done() - bar.n, 0))
        stopped = any_process(bool(received))  # by which all meet
    if stopped:
        number = received[0] if received else signal.SIGTERM
        raise Interrupted(
            f"stopped by {signal.Signals(number).name}; {pieces.folder} keeps the finished pieces, and the same "
            "command goes on from them",
            number,
        )
