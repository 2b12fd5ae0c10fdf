"""Checkpoints: folders of safetensors and JSON that are whole or absent, verified by hash when loaded.

A checkpoint is written to a temporary folder; its files are synced and listed in a manifest with their sizes and
SHA-256; the folder is renamed; only then are old checkpoints deleted. So a run may be killed at any moment.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import torch
from torch import Tensor

from fpdm.configuration import NonNegativeInt, PositiveInt, from_values
from fpdm.errors import CheckpointError
from fpdm.files import check_regular, read_json, sha256_of, signed
from fpdm.runs.progress import Progress
from fpdm.tensors import check_weights, read_tensors, write_tensors

T = TypeVar("T")

FORMAT = 2
OLD_FORMATS = {1: "0.1.0"}  # loaded for sampling; unfinished runs are resumed by these versions of fpdm only
MANIFEST = "manifest.json"
STATE = "state.json"


class NewerFormatError(CheckpointError):
    """A checkpoint is whole, but was written by a later version of this package."""


@dataclass(frozen=True)
class _Entry:
    """A file in a manifest."""

    bytes: NonNegativeInt
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose files are those that its manifest lists.

    Attributes:
        path: Its folder.
        state: The state that `save` was given, with the format and the step.
        hashes: The SHA-256 of each file, by name. No other file in the folder is ever read.
    """

    path: Path
    state: dict[str, Any]
    hashes: dict[str, str]

    @property
    def progress(self) -> Progress:
        """Progress of the run at this checkpoint.

        Raises:
            CheckpointError: The state has none.
        """
        values = {key: self.state[key] for key in asdict(Progress()) if key in self.state}
        return self._typed(Progress, values, STATE)

    def value(self, key: str, kind: type[T]) -> T:
        """Return a value of the state, of this type.

        Raises:
            CheckpointError: It is missing, or has another type.
        """
        if key not in self.state:
            raise CheckpointError(f"{self.path} is damaged: {STATE} lacks {key}")
        return self._typed(kind, self.state[key], key)

    def file(self, name: str) -> Path:
        """Return the path of a file.

        Raises:
            CheckpointError: The manifest does not list it.
        """
        if name not in self.hashes:
            raise CheckpointError(f"{self.path} is damaged: its manifest does not list {name}")
        return self.path / name

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Load the tensors saved under `name`, on the CPU.

        Raises:
            CheckpointError: The manifest does not list the file, or it cannot be read.
        """
        try:
            return read_tensors(self.file(name))
        except ValueError as error:
            raise CheckpointError(str(error)) from error

    def _typed(self, kind: type[T], value: Any, name: str) -> T:
        try:
            return from_values(kind, value, name)
        except ValueError as error:
            raise CheckpointError(f"{self.path} is damaged: {error}") from error


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
            write_tensors(path, group, {"format": "pt"})
        for name, text in {**files, STATE: signed({**state, "format": FORMAT, "step": step})}.items():
            (temporary / name).write_text(text, encoding="utf-8")
        listing = {
            path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        (temporary / MANIFEST).write_text(signed({"format": FORMAT, "files": listing}), encoding="utf-8")
        for path in (*temporary.rglob("*"), temporary):
            _sync(path)
        if os.path.lexists(final):  # a damaged one that was skipped when the run was resumed
            _delete(final)
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

    Warns:
        RuntimeWarning: One cannot be deleted.
    """
    found = _newest_first(root)
    whole = [path for path in found if _step(path) <= step]
    _delete_all({*found} - {*whole[: max(keep, 2)]})
    sweep(root)


def sweep(root: Path) -> None:
    """Delete what killed saves left behind. No other process may be saving at the same time.

    Warns:
        RuntimeWarning: Something cannot be deleted.
    """
    _delete_all(root.glob(".writing-*"))


def exist(root: Path) -> bool:
    """Return whether there are checkpoints below `root`, damaged ones included."""
    return bool(_newest_first(root))


def is_whole(root: Path, step: int, names: Collection[str] = ()) -> bool:
    """Return whether there is an undamaged checkpoint of this step with these files."""
    try:
        found = verify(folder(root, step))
    except CheckpointError:
        return False
    return found.hashes.keys() >= {*names}


def latest(root: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None if there are no checkpoints at all, as `load_latest` does."""
    return load_latest(root, lambda found: found)


def load_latest(root: Path, load: Callable[[Checkpoint], T]) -> T | None:
    """Load the newest checkpoint that is whole and can be loaded. Those that cannot are skipped with a warning.

    Args:
        root: The run's folder of checkpoints.
        load: Loads one. If it raises a `CheckpointError`, the one before is tried.

    Returns:
        What `load` returned, or None if there are no checkpoints at all.

    Raises:
        CheckpointError: None can be loaded, or the newest was written by a newer version.
    """
    found, first = _newest_first(root), None
    for path in found:
        try:
            return load(verify(path))
        except NewerFormatError:
            raise
        except CheckpointError as error:
            first = first or error
            if path != found[-1]:
                warnings.warn(f"{error}; trying the one before", RuntimeWarning, stacklevel=2)
    if first is not None:
        which = f"all {len(found)} checkpoints" if len(found) > 1 else "the only checkpoint"
        raise CheckpointError(f"{which} in {root} cannot be used: {first}; move {root.name} away to start again")
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
        manifest = read_json(path / MANIFEST)
        known = from_values(PositiveInt, manifest.get("format"), "format")  # type: ignore[arg-type]
        if known > FORMAT and _state_format(path) in (known, None):
            raise NewerFormatError(f"{path} has format {known}, newer than this version's {FORMAT}; update fpdm")
        listed = from_values(dict[str, _Entry], manifest.get("files"), "files")
        if STATE not in listed:
            raise ValueError(f"its manifest does not list {STATE}")
        for name, entry in listed.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"its manifest lists {name}, which lies outside of it")
            file = path / name
            if check_regular(file) != entry.bytes or sha256_of(file) != entry.sha256:
                raise ValueError(f"the size or hash of {name} is not the manifest's")
        state = read_json(path / STATE)
        if state.get("format", known) != known:
            raise ValueError(f"its manifest has format {known}, its state {state['format']}")
    except OSError as error:
        if error.errno not in _GONE:
            raise
        raise CheckpointError(f"{path} is damaged: {error.strerror}: {Path(error.filename or '').name}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {str(error).removeprefix(f'{path}/')}") from error
    return Checkpoint(path, state, {name: entry.sha256 for name, entry in listed.items()})


_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


def _state_format(path: Path) -> int | None:
    """Return the format that a checkpoint's state has; None if that cannot be read."""
    try:
        return read_json(path / STATE).get("format")
    except (OSError, ValueError):
        return None


def check_names(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that the tensors found fit the architecture.

    Raises:
        CheckpointError: Names or shapes differ, or values are not finite real numbers; the first three problems are
            named.
    """
    try:
        check_weights(path, found)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
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
    """Return the folders of the checkpoints. Whatever else lies there is none of ours."""
    return sorted((path for path in root.glob("step-*") if _NAME.fullmatch(path.name)), key=_step, reverse=True)


_NAME = re.compile(r"step-(\d{9,18})", re.ASCII)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _delete_all(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            _delete(path)
        except OSError as error:  # which must not end a training
            warnings.warn(f"{path} cannot be deleted: {error.strerror}", RuntimeWarning, stacklevel=3)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
