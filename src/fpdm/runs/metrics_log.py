"""Read and write metrics logs: JSON lines with one row per logged step, appended during training.

A checkpoint records the length and the hash of each log, because a resumed run goes on with the log as it goes on with
the weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpdm.configuration import NonNegativeInt, parse_json
from fpdm.files import open_regular, sha256_of, write_atomically

_REPAIR = "remove the line, or move the file away"


@dataclass(frozen=True)
class LogState:
    """Length and hash of a log, as they were when a checkpoint was saved.

    Attributes:
        bytes: Its length.
        sha256: Its hash.
    """

    bytes: NonNegativeInt
    sha256: str

    @classmethod
    def of(cls, path: Path) -> LogState:
        """Describe a log, once the disk has all of it; a log that does not exist is empty."""
        try:
            with open_regular(path) as stream:
                os.fsync(stream.fileno())
                length = os.fstat(stream.fileno()).st_size
            return cls(length, sha256_of(path))
        except FileNotFoundError:
            return cls(0, hashlib.sha256().hexdigest())


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row, which must have a "step"."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({key: json_safe(value) for key, value in row.items()}) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows in order, without a last line that a kill cut off; none if there is no file.

    Raises:
        ValueError: It is not a regular file, or a line is not a row with a "step"; the message names the line.
    """
    return [*rows_of(path)]


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows that `read_rows` returns, without keeping them: the log of a long run has very many.

    Raises:
        ValueError: As `read_rows`.
    """
    return (row for row, _ in _rows(path))


def check_log(path: Path, state: LogState) -> None:
    """Check that a log begins with what it was when a checkpoint was saved.

    Raises:
        ValueError: It does not.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(state.bytes)
    except FileNotFoundError:
        return
    if LogState(len(content), hashlib.sha256(content).hexdigest()) != state:
        raise ValueError(
            f"{path} was changed since the checkpoint was saved (the sha256 of its first {state.bytes} bytes is "
            "another); put the original back, or move it away to go on with a new log"
        )


def rewind_log(path: Path, state: LogState | None, step: int) -> None:
    """Drop what was logged after a checkpoint. A resumed run will repeat those steps.

    Args:
        path: The log.
        state: What the checkpoint has recorded of it; None for a checkpoint of an earlier version.
        step: The step of the checkpoint.

    Raises:
        ValueError: The log is not the one of the checkpoint or, if that has no record, has a line that is not a row.
    """
    if not path.exists():
        if state is not None and state.bytes:
            warnings.warn(f"{path} is gone; a new one begins after step {step}", RuntimeWarning, stacklevel=2)
        return
    if state is not None:
        check_log(path, state)
        length = state.bytes
    else:
        length = 0
        for row, end in _rows(path):
            if row["step"] > step:
                break
            length = end
    with open_regular(path) as stream:
        content = stream.read(length)
        same = not stream.read(1)
    if not same:
        write_atomically(path, content)


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each row, and the number of bytes up to its end."""
    try:
        stream = open_regular(path)
    except FileNotFoundError:
        return
    end = 0
    with stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            name = f"line {number} of {path}"
            try:
                row = parse_json(line.decode().strip() or "null", name)
                if not isinstance(row, dict) or type(row.get("step")) is not int:
                    raise ValueError(f"{name} is no row with a step")
            except UnicodeDecodeError:
                raise ValueError(f"{name} is no text in UTF-8; {_REPAIR}") from None
            except ValueError as error:
                raise ValueError(f"{error}; {_REPAIR}") from None
            yield row, end


def json_safe(value: Any) -> Any:
    """Return None for a number that is not finite, which JSON cannot express, and any other value as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
