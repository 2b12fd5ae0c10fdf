"""The long forms of these tests, whose figures are recorded: `make faults`.

Each part gets its share of the time; what does not fit is not tried, and the record says how much was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fpdm import __version__
from fpdm.files import write_atomically
from tests.faults.cases import every
from tests.faults.changes import changes, counts, faults
from tests.faults.kills import LINES, Killer, first_difference
from tests.faults.long import endure
from tests.faults.malicious import FILES
from tests.faults.readers import readers
from tests.faults.world import make_world

BATCH = 100


def of_changes(world: Path, folder: Path, seconds: float, count: int) -> dict[str, Any]:
    """Change bytes at random in turn, `count` in all."""
    targets, found, end, seed = readers(world, folder / "kept"), {}, time.monotonic() + seconds, 0
    while sum(map(len, found.values())) < count and time.monotonic() < end:
        for name, (files, reader) in targets.items():
            found.setdefault(name, []).extend(changes(files, reader, BATCH, seed))
        seed += 1
    bad = {
        name: [f"{one.path.name} at {one.place}: {one.outcome}" for one in faults(some)] for name, some in found.items()
    }
    return {"planned": count, "outcomes": {name: counts(some) for name, some in found.items()}, "faults": bad}


def of_kills(world: Path, folder: Path, seconds: float, count: int) -> dict[str, Any]:
    """Kill each command in turn, one to three times a trial, and every fourth time two at once."""
    killers, end, number = {}, time.monotonic() + seconds, 0
    rows = {name: {"kills": 0, "trials": 0, "same": 0, "two_at_once": 0, "same_of_two": 0} for name in LINES}
    wrong: list[str] = []
    while sum(row["kills"] for row in rows.values()) < count and time.monotonic() < end:
        name = [*LINES][number % len(LINES)]
        if name not in killers:
            killers[name] = Killer(LINES[name], world, folder / name, seed=number)
        killer, row = killers[name], rows[name]
        if (number // len(LINES)) % 4 == 3:
            codes, same = killer.together()
            row["kills"] += 1
            row["two_at_once"] += 1
            row["same_of_two"] += same and codes[1] == 0
        else:
            found = killer.trial(1 + number % 3)
            row["kills"] += found.kills
            row["trials"] += 1
            same = found.same
            row["same"] += same
        if not same:
            wrong.append(f"{name}: {first_difference(killer)}")
        number += 1
    return {"planned": count, "commands": rows, "wrong": wrong}


def of_long(world: Path, folder: Path, seconds: float, kills: int) -> dict[str, Any]:
    """Train with kills for about so many seconds."""
    each = seconds / (2 * kills)
    probe = endure(world, folder / "probe", steps=60, kills=0)
    rate = 60 / probe.seconds
    found = endure(world, folder / "long", steps=int(rate * seconds), kills=kills, seconds_each=each / 1.25)
    return found._asdict()


def main() -> None:
    """Run all parts and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=150.0)
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    start, budget = time.monotonic(), 60 * given.minutes
    parts: tuple[tuple[str, float, Callable[..., dict[str, Any]], int], ...] = (
        ("changed_bytes", 0.25, of_changes, given.changes),
        ("kills", 0.35, of_kills, given.kills),
        ("long_run", 0.4, of_long, 20),
    )
    record: dict[str, Any] = {
        "command": f"python -m tests.faults --minutes {given.minutes:g}",
        "planned": {"changes": given.changes, "kills": given.kills},
        "versions": {"fpdm": __version__, "python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one of them used",
        "cases": len([*every()]),
        "malicious_files": len(FILES),
    }
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        (root / "world").mkdir()
        world = make_world(root / "world")
        for name, share, part, count in parts:
            begun = time.monotonic()
            (root / name).mkdir()
            record[name] = {**part(world, root / name, share * budget, count), "minutes": 0.0}
            record[name]["minutes"] = round((time.monotonic() - begun) / 60, 1)
            print(json.dumps({name: record[name]}, indent=1), flush=True)
            record["minutes"] = round((time.monotonic() - start) / 60, 1)
            write_atomically(given.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
