"""Read files that anyone may have made, write files atomically, hash them, and lock folders."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout

from fpdm import __version__
from fpdm.configuration import WRITER, from_values, parse_json

T = TypeVar("T")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says of a full disk
TEXT_LIMIT = 2**25  # bytes of a text file, which as JSON may take twenty times as many in memory
_SPARSE = 2**30  # bytes from which on a file has to be on the disk, for reading a terabyte of holes takes hours
_JSON_NAMES = {dict: "an object", list: "an array", str: "a text", int: "an integer", float: "a number"}
_JSON_NAMES |= {bool: "true or false", type(None): "null"}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path) -> int:
    """Check that a file may be opened: that it is no folder, pipe, socket or device, which may keep a reader for ever.

    Whatever opens a file by a library's function is to call this first; our own readers use `open_regular`.

    Returns:
        The size of the file in bytes.

    Raises:
        OSError: There is no such file, or its folder may not be searched.
        ValueError: It is not a regular file.
    """
    return _check(path, os.stat(path))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: There is no such file, or it may not be read.
        ValueError: It is not a regular file.
    """
    check_regular(path)
    # Should it have become a pipe since, this does not wait for a writer.
    stream = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    try:
        _check(path, os.fstat(stream.fileno()))
    except ValueError:
        stream.close()
        raise
    return stream


def _check(path: Path, found: os.stat_result) -> int:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        raise ValueError(f"{path} is {kind}; expected a file")
    on_disk = 512 * getattr(found, "st_blocks", found.st_size)  # which Windows does not say
    if found.st_size > _SPARSE and on_disk < found.st_size // 1000 and _has_hole(path):
        raise ValueError(
            f"{path} says it has {found.st_size} bytes, of which {on_disk} are on the disk; expected a whole file"
        )
    return found.st_size


def _has_hole(path: Path) -> bool:
    """Whether the file system knows of a hole in a file; some report nothing of use about what is on the disk."""
    with path.open("rb") as stream:
        return os.lseek(stream.fileno(), 0, os.SEEK_HOLE) < os.fstat(stream.fileno()).st_size


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not a regular file, or is larger.
    """
    with open_regular(path) as stream, _named(path):
        size = os.fstat(stream.fileno()).st_size
        # Memory for all that is asked for is taken beforehand, so no more is than the file needs.
        content = stream.read(size + 1) if size <= limit else b""
        if len(content) > size:  # it grows, or its system does not know its size
            content += stream.read(limit + 1 - len(content))
    if max(size, len(content)) > limit:
        raise ValueError(f"{path} is larger than {limit // 2**20} MiB; expected a small file")
    return content


def read_text(path: Path, limit: int = TEXT_LIMIT) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not a regular file, is larger than `limit` bytes, or is not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}") from None


def read_json(path: Path, kind: type = dict, limit: int = TEXT_LIMIT) -> Any:
    """Read a JSON file. There is no other reader: a file is the user's, and may hold or be anything.

    Args:
        path: The file.
        kind: The type that the whole must have.
        limit: Largest size in bytes.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not a regular file, is too large, is not UTF-8 or JSON, is nested too deeply, gives a key
            twice, or holds another type. The message begins with the path.
    """
    values = parse_json(read_text(path, limit), str(path))
    if type(values) is not kind:
        raise ValueError(f"{path} holds {_JSON_NAMES[type(values)]}; expected {_JSON_NAMES[kind]}")
    return values


def read_dataclass(path: Path, kind: type[T]) -> T:
    """Read a dataclass that was written as JSON. Its fields are checked against their annotations.

    Args:
        path: The file.
        kind: The dataclass.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is none that `read_json` reads, or a field is missing, unknown or of another type. The message
            begins with the path.
    """
    values = read_json(path)
    unknown = sorted(values.keys() - {one.name for one in dataclasses.fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"{path}: it has an unknown key {unknown[0]!r}")
    try:
        return from_values(kind, values, "it")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content, so that at any moment it has its old content or the new. Text is written as UTF-8."""
    temporary = temporary_in(path.parent)
    try:
        with _named(path):
            temporary.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any] | str) -> None:
    """Write an object as JSON, atomically, as `signed` makes it."""
    write_atomically(path, signed(values))


def signed(values: Mapping[str, Any] | str) -> str:
    """Return an object, or its JSON, as JSON whose first key is the version of this package.

    All readers leave that key out again, so it is part of no hash and of no comparison: another version goes on with
    what this one has begun.
    """
    return json.dumps({WRITER: __version__, **(json.loads(values) if isinstance(values, str) else values)}, indent=1)


def temporary_in(folder: Path) -> Path:
    """Return a new name in a folder for what is moved to its place once it is whole; `sweep` knows such names."""
    return folder / f".{uuid.uuid4().hex}"


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Make a folder in another, for files that are moved to their places together; it is deleted at the end."""
    made = temporary_in(folder)
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def is_temporary(path: Path) -> bool:
    """Whether a killed process left this file or folder behind, to judge by its name."""
    return re.fullmatch(r"\.[0-9a-f]{32}", path.name) is not None


def sweep(folder: Path) -> None:
    """Delete what killed processes left under a temporary name in a locked folder and in those directly below it."""
    for path in (*folder.glob(".*"), *folder.glob("*/.*")):
        if not is_temporary(path):
            continue
        if path.is_file():
            path.unlink()
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def files_in(folder: Path) -> int:
    """Return the number of entries of a folder; 0 if there is none."""
    return sum(1 for _ in os.scandir(folder)) if folder.is_dir() else 0


def check_writable(folder: Path, files: Iterable[str] = ()) -> None:
    """Check that files can be made in a folder, by making one, and that some can be appended to, if they exist.

    Raises:
        ValueError: They cannot.
        OSError: The disk is full.
    """
    probe = temporary_in(folder)
    path = folder
    try:
        probe.touch()
        probe.unlink()
        for path in (folder / name for name in files):
            if path.exists():
                check_regular(path)
                path.open("ab").close()
    except OSError as error:
        if error.errno in FULL:
            raise
        raise ValueError(f"{path} cannot be written to: {error.strerror}; change its permissions") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not a regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream, _named(path):
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give the system's errors of reading and writing a file its name, which they lack or which is a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextlib.contextmanager
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
        who = _read_holder(holder) or "another process"
        raise ValueError(f"{out} is in use by {who}; wait until it has finished, or choose another folder") from None
    try:
        if dead := _read_holder(holder):
            warnings.warn(f"{out} was held by {dead}, which is gone; taking it over", RuntimeWarning, stacklevel=4)
        write_atomically(holder, f"process {os.getpid()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _read_holder(path: Path) -> str:
    """Return who holds a lock; empty if nobody says so."""
    try:
        return " ".join(read_text(path, 1000).split())[:100]
    except (OSError, ValueError):
        return ""


def holds_lock(out: Path) -> bool:
    """Whether this thread holds the lock of a folder."""
    return _lock_of(out).is_locked


def _lock_of(out: Path) -> FileLock:
    return FileLock(out.resolve() / ".lock", is_singleton=True)


def cache_folder() -> Path:
    """Return the folder for files that can be made again: $XDG_CACHE_HOME/fpdm, by default ~/.cache/fpdm.

    Raises:
        ValueError: The user has no home folder, as in some containers, and the variable is not set.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fpdm"
    except RuntimeError:
        raise ValueError("this user has no home folder for cached files; set XDG_CACHE_HOME to a folder") from None
