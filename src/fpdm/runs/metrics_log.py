"""Files of figures by step: a JSON object a line, appended while a run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpdm.files import write_atomically


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row; it has a "step"."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({key: json_safe(value) for key, value in row.items()}) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows in their order, none if there is no file; a line that a kill cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def drop_rows_after(path: Path, step: int) -> None:
    """Drop the rows of steps that a killed run made after its last checkpoint; they are about to be made again."""
    if path.exists():
        kept = [row for row in read_rows(path) if row["step"] <= step]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))


def json_safe(value: Any) -> Any:
    """None for a number that is not finite, which JSON has no word for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
