"""Files that are whole or absent, and the hash to know one by."""

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
    """Write bytes, or a text as UTF-8, so that a reader, or a kill at any moment, finds the old content or the new."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold a folder against a second process that would write to it; it is made if need be.

    Raises:
        ValueError: Another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    # The system frees the lock of a process that dies, so none goes stale.
    lock, holder = FileLock(out / ".lock"), out / ".holder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        raise ValueError(f"{out} is in use by {who}; wait for it, or choose another folder") from None
    try:
        if holder.exists():
            dead = holder.read_text(encoding="utf-8")
            warnings.warn(f"{out} was held by {dead}, which is gone; taking it over", RuntimeWarning, stacklevel=4)
        write_atomically(holder, f"process {os.getpid()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def cache_folder() -> Path:
    """Where the project keeps what can be made or fetched again: $XDG_CACHE_HOME/fpdm, by default ~/.cache/fpdm."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fpdm"
