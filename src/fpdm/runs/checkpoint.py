"""Checkpoints: folders of safetensors and JSON that are whole or absent, verified by hash when loaded.

A checkpoint is written to a temporary folder, its files synced, listed with size and SHA-256 in a manifest, and the
folder renamed; only then are old ones pruned. So a run may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fpdm.errors import CheckpointError

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"


class NewerFormatError(CheckpointError):
    """A checkpoint of a later version of this package: whole, but not for us to read."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk.

    Attributes:
        path: Its folder.
        state: What `save` was given as state.
        hashes: SHA-256 of its files by name.
    """

    path: Path
    state: dict[str, Any]
    hashes: dict[str, str]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under `name`, on the CPU."""
        return load_file(self.path / name)


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], files: Mapping[str, str], state: dict[str, Any]
) -> Path:
    """Write the checkpoint of `step` below `root`, whole or not at all.

    Args:
        root: The run's folder of checkpoints.
        step: Training steps done.
        tensors: Tensors by name, by the (relative) name of the safetensors file that is to hold them.
        files: Texts by file name.
        state: What else a resumed run must know; JSON.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: A floating-point tensor holds nan or inf.
        OSError: The disk is full, say. What was there before is untouched.
    """
    for name, group in tensors.items():
        bad = [key for key, value in group.items() if value.is_floating_point() and not bool(value.isfinite().all())]
        if bad:
            raise CheckpointError(f"refused to save step {step}: {name} holds nan or inf in {', '.join(bad[:3])}")
    final = folder(root, step)
    temporary = root / f".writing-{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        for name, group in tensors.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                save_file(
                    {key: value.detach().cpu().contiguous() for key, value in group.items()}, path, {"format": "pt"}
                )
            except SafetensorError as error:  # its word for what the system refused
                raise OSError(f"{path}: {error}") from error
        for name, text in {**files, STATE: json.dumps({**state, "format": FORMAT, "step": step}, indent=1)}.items():
            (temporary / name).write_text(text, encoding="utf-8")
        listing = {
            path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        (temporary / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": listing}, indent=1), encoding="utf-8")
        for path in (*temporary.rglob("*"), temporary):
            _sync(path)
        if final.exists():  # a damaged one that was skipped when the run was resumed
            shutil.rmtree(final)
        temporary.rename(final)
        _sync(root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def folder(root: Path, step: int) -> Path:
    """Where the checkpoint of `step` is kept below `root`."""
    return root / f"step-{step:09d}"


def prune(root: Path, keep: int, step: int) -> None:
    """Delete all checkpoints but the newest `keep` (at least 2) up to `step`, and what killed saves left behind.

    One above the step just saved was damaged, and skipped when the run was resumed.
    """
    found = _newest_first(root)
    whole = [path for path in found if path <= folder(root, step)]
    for path in {*found} - {*whole[: max(keep, 2)]}:
        shutil.rmtree(path)
    sweep(root)


def sweep(root: Path) -> None:
    """Delete what killed saves left behind. Nobody may be saving meanwhile."""
    for path in root.glob(".writing-*"):
        shutil.rmtree(path)


def exist(root: Path) -> bool:
    """Whether there are checkpoints below `root`, damaged ones included."""
    return bool(_newest_first(root))


def is_whole(root: Path, step: int) -> bool:
    """Whether there is a checkpoint of this step, undamaged."""
    try:
        verify(folder(root, step))
    except CheckpointError:
        return False
    return True


def latest(root: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None if there is none at all.

    A damaged one is skipped with a warning.

    Raises:
        CheckpointError: There are checkpoints, and all are damaged, or the newest is of a newer version.
    """
    found = _newest_first(root)
    for path in found:
        try:
            return verify(path)
        except NewerFormatError:
            raise
        except CheckpointError as error:
            warnings.warn(f"{error}; trying the one before", RuntimeWarning, stacklevel=2)
    if found:
        raise CheckpointError(f"all {len(found)} checkpoints in {root} are damaged; move them away to start afresh")
    return None


def last_good(root: Path) -> str:
    """Where the newest whole checkpoint is, for a message; "none" if there is none."""
    try:
        found = latest(root)
    except CheckpointError:
        found = None
    return "none" if found is None else str(found.path)


def verify(path: Path) -> Checkpoint:
    """Check sizes and hashes of a checkpoint.

    Raises:
        CheckpointError: Something is missing, was changed, or has a newer format.
        OSError: It cannot be read now, which says nothing of what it holds.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] > FORMAT:
            raise NewerFormatError(
                f"{path} has format {manifest['format']}, newer than this version's {FORMAT}; update fpdm"
            )
        for name, entry in manifest["files"].items():
            file = path / name
            if file.stat().st_size != entry["bytes"] or _sha256(file) != entry["sha256"]:
                raise CheckpointError(f"{file} is damaged: its size or hash is not the manifest's")
        hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        return Checkpoint(path, json.loads((path / STATE).read_text(encoding="utf-8")), hashes)
    except (*_GONE, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {error}") from error


_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def check_names(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that the tensors found fit the architecture.

    Raises:
        CheckpointError: Names or shapes differ (the first three are named), or values are not finite.
    """
    wrong = [f"{key} is missing" for key in expected if key not in found]
    wrong += [f"{key} is unknown" for key in found if key not in expected]
    wrong += [
        f"{key} is {tuple(found[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    wrong += [f"{key} holds nan or inf" for key, value in found.items() if not bool(torch.isfinite(value).all())]
    if wrong:
        raise CheckpointError(f"{path} does not fit this model: {'; '.join(wrong[:3])} ({len(wrong)} in all)")


def _newest_first(root: Path) -> list[Path]:
    return sorted(root.glob("step-*"), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
