"""Read and write metrics logs: JSON lines with one row per logged step, appended during training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpdm.files import write_atomically


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row, which must have a "step"."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({key: json_safe(value) for key, value in row.items()}) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows in order, without a last line that a kill cut off; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def drop_rows_after(path: Path, step: int) -> None:
    """Drop the rows after `step`. A resumed run will repeat the steps that it made after its last checkpoint."""
    if path.exists():
        kept = [row for row in read_rows(path) if row["step"] <= step]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))


def json_safe(value: Any) -> Any:
    """Return None for a number that is not finite, which JSON cannot express, and any other value as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
