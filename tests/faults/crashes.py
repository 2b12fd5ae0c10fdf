"""Stop a program at any of its file operations, as a kill does: nothing that it does when it fails is done."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.world import fingerprint

_CHANGING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OF_THE_LOCK = (".lock", ".holder")  # left by whoever is killed; they are known to be nobody's
SHARES = (None, 0.0, 0.5)
"""Of the file written last, what is on the disk when the program is killed: all that was written, nothing, half."""


class KilledError(BaseException):
    """The program is killed; nothing of ours may catch it."""


class Operation(NamedTuple):
    """A change of the disk: what, and of which file."""

    kind: str
    path: Path


class Point(NamedTuple):
    """The moment before an operation, and the share that is on the disk of what the one before it has written."""

    at: int
    share: float | None

    def __str__(self) -> str:
        return f"{self.at}{'' if self.share is None else f', {self.share:.0%} written'}"


class _Watch:
    """Follows the operations below a folder; from one of them on, raises at each."""

    def __init__(self, root: Path, at: int | None = None) -> None:
        self.root, self.at = root.resolve(), at
        self.done: list[Operation] = []
        self.before: dict[Path, int] = {}  # sizes of the files when they were opened

    def see(self, kind: str, path: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        found = Path(os.path.abspath(os.fsdecode(path)))
        if not found.is_relative_to(self.root) or found.name in _OF_THE_LOCK:
            return
        if self.at is not None and len(self.done) >= self.at:
            raise KilledError(f"{kind} {found.name}")
        if kind == "open":
            self.before[found] = found.stat().st_size if found.exists() else 0
        self.done.append(Operation(kind, found))


_watch: _Watch | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watch is None:
        return
    if event == "open":
        path, mode, flags = args
        if flags & _WRITING and not (isinstance(mode, str) and mode in ("r", "rb")):
            _watch.see("open", path)
    elif event in _CHANGING:
        path, folder = args[0], next((one for one in args[1:] if _is_folder(one)), None)
        if folder is not None:  # what shutil.rmtree deletes is named relative to an open folder
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
        _watch.see(event.removeprefix("os."), path)


def _is_folder(descriptor: Any) -> bool:
    """Whether an argument is the descriptor of an open folder, and not -1 or a mode."""
    return isinstance(descriptor, int) and descriptor > 2 and os.path.isdir(f"/proc/self/fd/{descriptor}")


sys.addaudithook(_hook)  # which stays; it does nothing while nothing is watched


@contextmanager
def _watching(watch: _Watch) -> Iterator[None]:
    global _watch
    fsync = os.fsync

    def sync(descriptor: int) -> None:  # which the interpreter does not tell of
        watch.see("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    _watch, os.fsync = watch, sync
    try:
        yield
    finally:
        _watch, os.fsync = None, fsync


def operations(action: Callable[[], object], root: Path) -> list[Operation]:
    """Perform an action, and return its file operations below a folder."""
    watch = _Watch(root)
    with _watching(watch):
        action()
    return watch.done


def crash(action: Callable[[], object], root: Path, point: Point) -> None:
    """Perform an action up to a point."""
    watch = _Watch(root, point.at)
    try:
        with _watching(watch):
            action()
    except KilledError:
        last = watch.done[-1] if watch.done else None
        if point.share is not None and last is not None and last.path.is_file():
            start = watch.before.get(last.path, 0)
            os.truncate(last.path, start + int(point.share * max(last.path.stat().st_size - start, 0)))
        return
    raise AssertionError(f"there is no operation {point.at}")


def points(done: list[Operation], every: int = 1) -> list[Point]:
    """All points of an action, or every so manieth."""
    found = [
        Point(at, share) for at in range(len(done)) for share in SHARES if share is None or done[at - 1].kind == "open"
    ]
    return found[::every]


def restored(folder: Path, to: Path) -> None:
    """Put a folder as it was before; absent, if there was none."""
    shutil.rmtree(to, ignore_errors=True)
    if folder.exists():
        shutil.copytree(folder, to, symlinks=True)


def result(folder: Path) -> dict[str, Any]:
    """All that is in a folder, without what differs from one undisturbed call to the next: times."""
    found: dict[str, Any] = {}
    for path, digest in fingerprint(folder).items():
        name = str(Path(path).relative_to(folder))
        if Path(path).name in (*_OF_THE_LOCK, *_WITH_TIMES):
            continue
        if name.endswith(".json") and digest != "folder":
            found[name] = _timeless(json.loads(Path(path).read_text()))
        elif name.endswith(".jsonl"):
            found[name] = [_timeless(json.loads(line)) for line in Path(path).read_text().splitlines()]
        else:
            found[name] = digest
    return found


_WITH_TIMES = ("report.html", "distance.png", "README.md")  # and with the command line
_OF_TIMES = ("seconds", "logs", "bytes", "sha256", "checksum", "files")  # the last ones, of what holds times


def _timeless(values: Any) -> Any:
    if isinstance(values, dict):
        timed = "seconds" in values or "files" in values or "logs" in values
        return {
            key: _timeless(value)
            for key, value in values.items()
            if "second" not in key and key not in ("out", "command") and not (timed and key in _OF_TIMES)
        }
    return [_timeless(one) for one in values] if isinstance(values, list) else values
