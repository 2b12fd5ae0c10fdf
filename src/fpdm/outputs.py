"""The one rule for what commands write: a folder is new, empty or the command's own, and nothing else is replaced."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpdm.files import holds_lock, is_temporary, lock, read_json, sweep, write_json

MARKER = ".fpdm.json"
_OF_NOBODY = {
    MARKER,
    ".lock",
    ".holder",
    ".DS_Store",
    ".gitkeep",
    ".gitignore",
    "Thumbs.db",
    "desktop.ini",
    "lost+found",
}


@dataclass(frozen=True)
class OutputFolder:
    """A kind of folder that one command writes, and recognises by the marker file in it.

    Attributes:
        command: Name of the command.
        record: A JSON file that this command has always written, by which a folder without a marker, made before there
            were any, is recognised.
        keys: Keys of the object in that file.
        preliminary: Names of the files that are written before there is any result. If the command fails when there
            are no others, they are removed again, and so are empty folders.
    """

    command: str
    record: str
    keys: frozenset[str]
    preliminary: frozenset[str] = field(default_factory=frozenset)

    def check(self, out: Path, inputs: Mapping[str, Path | str | None] | None = None) -> None:
        """Check that a folder may be written to, without making it.

        Args:
            out: The folder.
            inputs: What the command reads, by a name for it; the folder may not be one of them, nor lie in one. What
                does not exist is ignored.

        Raises:
            ValueError: It may not: it is a file, cannot be written to, is or lies in an input, or has files that are
                not the command's own.
        """
        _check_writable(out)
        for name, path in (inputs or {}).items():
            if path and Path(path).is_dir() and out.resolve().is_relative_to(Path(path).resolve()):
                raise ValueError(f"--out {out} lies in the {name} {path}; choose a folder outside of it")
        others = _content(out)
        if not others:
            return
        maker = self._maker(out)
        if maker is None:
            raise ValueError(
                f"--out {out} has other files, such as {others[0]}; expected a new or empty folder, or one made by "
                f"fpdm {self.command}"
            )
        if maker != self.command:
            raise ValueError(
                f"--out {out} was made by fpdm {maker}; expected a new or empty folder, or one made by fpdm "
                f"{self.command}"
            )

    @contextmanager
    def hold(self, out: Path) -> Iterator[None]:
        """Lock the folder and mark it as the command's own; create it if it does not exist.

        Within a block that holds the folder already, this does nothing. If the command fails before it has any result,
        the folder is left as it was found.

        Raises:
            ValueError: Another process holds the folder, or it may not be written to.
        """
        if holds_lock(out):
            yield
            return
        self.check(out)  # before anything is made in it
        new = [path for path in (out, *out.absolute().parents) if not path.exists()]
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_empty, new)
            with lock(out):
                sweep(out)
                self.check(out)
                fresh = not _content(out)
                marked = (out / MARKER).exists()
                try:
                    if not marked:
                        write_json(out / MARKER, {"command": self.command})
                    yield
                except BaseException:
                    if fresh and not self._results(out):
                        self._clear(out, marked)
                    raise

    def _results(self, out: Path) -> set[str]:
        made = {name for name in _content(out) if not ((out / name).is_dir() and not any((out / name).iterdir()))}
        return made - self.preliminary

    def _clear(self, out: Path, marked: bool) -> None:
        for name in (*_content(out), *([] if marked else [MARKER]), ".lock"):
            path = out / name
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def _maker(self, out: Path) -> str | None:
        """Return the name of the command that made the folder; None if no command did."""
        marker = _read(out / MARKER)
        if isinstance(marker.get("command"), str):
            return marker["command"]
        return self.command if self.keys.issubset(_read(out / self.record)) else None


def check_file(out: Path, *, ours: bool = False, overwrite: bool = False) -> None:
    """Check that a file may be written, without making it.

    Args:
        out: The file.
        ours: Whether it is the same command's earlier result, which may be replaced.
        overwrite: Whether the user allows to replace whatever it is.

    Raises:
        ValueError: It exists and may not be replaced, is a folder, or cannot be written.
    """
    _check_writable(out.parent)
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; expected a file")
    if os.path.lexists(out) and not ((ours and out.exists()) or overwrite):
        raise ValueError(f"--out {out} exists already; choose another name, or replace it with --overwrite")


def _check_writable(folder: Path) -> None:
    for place, part in enumerate(folder.parts):
        if part == ".." and place and not (before := Path(*folder.parts[:place])).exists():
            raise ValueError(f"--out {folder}: there is no {before}, so that .. in it leads nowhere")
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise ValueError(f"--out {folder}: {nearest} is a file; expected a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder}: {nearest} cannot be written to")


def _content(out: Path) -> list[str]:
    """Return the names of everything in a folder but what no command takes notice of; none if there is no folder."""
    try:
        return sorted({one.name for one in out.iterdir() if not is_temporary(one)} - _OF_NOBODY)
    except FileNotFoundError:
        return []


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if there is none."""
    try:
        values = read_json(path)
    except (OSError, ValueError, RecursionError):
        values = None
    return values if isinstance(values, dict) else {}


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):  # the first that is not empty ends it
        for folder in folders:
            folder.rmdir()
