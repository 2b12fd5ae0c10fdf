"""Train, kill, resume and sample for a long time: memory, open files, the log and temporary folders."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.faults.kills import forked, killed, waited
from tests.faults.world import NETWORK, TRAINING, words_of


class Endured(NamedTuple):
    """What was seen of a long run.

    Attributes:
        kills: Number of kills of the training.
        steps: Steps of the training at its end.
        samples: Number of samplings.
        memory_growth: Growth of the resident memory of the last training, from a third of it to its end; NaN if it was
            looked at too seldom.
        open_files: Smallest number of open files of the last training, in its second third and in its last; a file
            that is just being written adds one.
        gaps: Steps that the log lacks or has twice.
        left: Files in temporary folders at the end.
        seconds: How long it took.
    """

    kills: int
    steps: int
    samples: int
    memory_growth: float
    open_files: tuple[int, ...]
    gaps: tuple[int, ...]
    left: tuple[str, ...]
    seconds: float


def endure(world: Path, folder: Path, *, steps: int, kills: int, seed: int = 0, seconds_each: float = 5.0) -> Endured:
    """Train for so many steps, killed so often after a random time, and sample after each kill."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    os.environ["TMPDIR"] = str(temporary)
    line = f"train --data @images --size 8 --channels 1 {NETWORK} {TRAINING} --checkpoint-every 10"
    words = [*words_of(line, world), "--steps", str(steps), "--out", str(folder / "run")]
    rng, log, start = random.Random(seed), folder / "log", time.monotonic()
    seen: list[tuple[int, int]] = []  # resident bytes and open files
    samples, done = 0, 0
    for number in range(kills + 1):
        child, seen = forked(words, log), []
        if number < kills:
            if not killed(child, rng.uniform(0.5, 2.0) * seconds_each):
                break
            done += 1
        else:
            code = _watched(child, seen)
            assert code == 0, log.read_text()[-500:]
        if (folder / "run" / "checkpoints").exists() and any((folder / "run" / "checkpoints").glob("step-*")):
            out = ["--out", str(folder / f"samples-{number}")]
            code = waited(forked(["sample", str(folder / "run"), "--num-images", "4", "--budget", "8", *out], log))
            assert code == 0, log.read_text()[-500:]
            samples += 1
    rows = [json.loads(row)["step"] for row in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    gaps = sorted({*range(1, steps + 1)} ^ {*rows}) + [step for step in {*rows} if rows.count(step) > 1]
    late = seen[len(seen) // 3 :]
    growth = late[-1][0] / late[0][0] - 1 if len(late) > 5 else float("nan")
    halves = late[: len(late) // 2], late[len(late) // 2 :]
    files = tuple(min((count for _, count in half), default=0) for half in halves)
    left = tuple(sorted(path.name for path in temporary.rglob("*")))
    return Endured(done, steps, samples, growth, files, tuple(gaps), left, time.monotonic() - start)


def _watched(child: BaseProcess, seen: list[tuple[int, int]]) -> int:
    process = psutil.Process(child.pid)
    while child.is_alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            now = process.memory_info().rss, process.num_fds()
            if all(now):  # a process that is ending has no memory or no files
                seen.append(now)
        child.join(0.2)
    return waited(child)
