"""Checkpoints: folders of safetensors and JSON that are whole or absent, verified by hash when loaded.

A checkpoint is written to a temporary folder; its files are synced and listed in a manifest with their sizes and
SHA-256; the folder is renamed; only then are old checkpoints deleted. So a run may be killed at any moment.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fpdm.errors import CheckpointError
from fpdm.files import sha256_of
from fpdm.runs.progress import Progress

FORMAT = 2
OLD_FORMATS = {1: "0.1.0"}  # loaded for sampling; unfinished runs are resumed by these versions of fpdm only
MANIFEST = "manifest.json"
STATE = "state.json"


class NewerFormatError(CheckpointError):
    """A checkpoint is whole, but was written by a later version of this package."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk.

    Attributes:
        path: Its folder.
        state: The state that `save` was given, with the format and the step.
        hashes: The SHA-256 of each file, by name.
    """

    path: Path
    state: dict[str, Any]
    hashes: dict[str, str]

    @property
    def progress(self) -> Progress:
        """Progress of the run at this checkpoint."""
        return Progress(**{key: self.state[key] for key in asdict(Progress())})

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Load the tensors saved under `name`, on the CPU."""
        return load_file(self.path / name)


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], files: Mapping[str, str], state: dict[str, Any]
) -> Path:
    """Write the checkpoint of `step` below `root`, whole or not at all.

    Args:
        root: The run's folder of checkpoints.
        step: Number of training steps done.
        tensors: Tensors by name, by the relative name of the safetensors file that holds them.
        files: Texts by file name.
        state: Whatever else a resumed run must know, as JSON.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: A floating-point tensor holds nan or inf.
        OSError: Writing failed, because the disk is full, for example. Earlier checkpoints are untouched.
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
            except SafetensorError as error:  # raised for errors of the system too
                raise OSError(f"{path}: {error}") from error
        for name, text in {**files, STATE: json.dumps({**state, "format": FORMAT, "step": step}, indent=1)}.items():
            (temporary / name).write_text(text, encoding="utf-8")
        listing = {
            path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
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
    """Return the folder of the checkpoint of `step` below `root`."""
    return root / f"step-{step:09d}"


def prune(root: Path, keep: int, step: int) -> None:
    """Delete all checkpoints but the newest `keep` (at least 2) up to `step`, and what killed saves left behind.

    A checkpoint of a later step than the one just saved was damaged and was skipped when the run was resumed.
    """
    found = _newest_first(root)
    whole = [path for path in found if path <= folder(root, step)]
    for path in {*found} - {*whole[: max(keep, 2)]}:
        shutil.rmtree(path)
    sweep(root)


def sweep(root: Path) -> None:
    """Delete what killed saves left behind. No other process may be saving at the same time."""
    for path in root.glob(".writing-*"):
        shutil.rmtree(path)


def exist(root: Path) -> bool:
    """Return whether there are checkpoints below `root`, damaged ones included."""
    return bool(_newest_first(root))


def is_whole(root: Path, step: int) -> bool:
    """Return whether there is an undamaged checkpoint of this step."""
    try:
        verify(folder(root, step))
    except CheckpointError:
        return False
    return True


def latest(root: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None if there are no checkpoints at all.

    A damaged checkpoint is skipped with a warning.

    Raises:
        CheckpointError: All checkpoints are damaged, or the newest was written by a newer version.
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
        raise CheckpointError(f"all {len(found)} checkpoints in {root} are damaged; move them away to start again")
    return None


def last_good(root: Path) -> str:
    """Return the path of the newest whole checkpoint for a message, or "none"."""
    try:
        found = latest(root)
    except CheckpointError:
        found = None
    return "none" if found is None else str(found.path)


def verify(path: Path) -> Checkpoint:
    """Check the sizes and hashes of a checkpoint's files.

    Raises:
        CheckpointError: A file is missing or was changed, or the format is newer than this version's.
        OSError: A file cannot be read at the moment, which does not mean that it is damaged.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] > FORMAT:
            raise NewerFormatError(
                f"{path} has format {manifest['format']}, newer than this version's {FORMAT}; update fpdm"
            )
        for name, entry in manifest["files"].items():
            file = path / name
            if file.stat().st_size != entry["bytes"] or sha256_of(file) != entry["sha256"]:
                raise CheckpointError(f"{file} is damaged: its size or hash is not the manifest's")
        hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        return Checkpoint(path, json.loads((path / STATE).read_text(encoding="utf-8")), hashes)
    except (*_GONE, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {error}") from error


_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def check_names(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that the tensors found fit the architecture.

    Raises:
        CheckpointError: Names or shapes differ, or values are not finite; the first three problems are named.
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
