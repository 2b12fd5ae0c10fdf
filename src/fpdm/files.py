"""Write files atomically, hash them, and lock folders."""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content, so that at any moment it has its old content or the new. Text is written as UTF-8."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Lock a folder against other processes that would write to it; create it if it does not exist.

    Raises:
        ValueError: Another process holds the lock.
    """
    out.mkdir(parents=True, exist_ok=True)
    # The system releases the lock of a process that dies, so a lock never goes stale.
    lock, holder = _lock_of(out), out / ".holder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        raise ValueError(f"{out} is in use by {who}; wait until it has finished, or choose another folder") from None
    try:
        if holder.exists():
            dead = holder.read_text(encoding="utf-8")
            warnings.warn(f"{out} was held by {dead}, which is gone; taking it over", RuntimeWarning, stacklevel=4)
        write_atomically(holder, f"process {os.getpid()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holds_lock(out: Path) -> bool:
    """Whether this thread holds the lock of a folder."""
    return _lock_of(out).is_locked


def _lock_of(out: Path) -> FileLock:
    return FileLock(out.resolve() / ".lock", is_singleton=True)


def cache_folder() -> Path:
    """Return the folder for files that can be made again: $XDG_CACHE_HOME/fpdm, by default ~/.cache/fpdm."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fpdm"
