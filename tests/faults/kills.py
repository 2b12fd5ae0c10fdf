"""Kill commands by SIGKILL at random moments, start them again, and compare the end with an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from fpdm import cli
from tests.faults.crashes import result
from tests.faults.world import COMMANDS, NETWORK, TRAINING, words_of

OFTEN = f"{TRAINING} --checkpoint-every 1"
LINES = {
    "train": f"train --data @images --size 8 --channels 1 --steps 12 {NETWORK} {OFTEN}",
    "train-autoencoder": "train-autoencoder digits --steps 6 --stage-channels 4 4 --batch-size 4 --checkpoint-every 1 "
    "--log-every 1",
    "prepare": f"{COMMANDS['cache']} --shard-size 2 --batch-size 2",
    "sample": f"{COMMANDS['sampled']} --num-images 12 --batch-size 2",
    "evaluate": f"{COMMANDS['evaluated']} --num-images 16 --batch-size 2 --piece-size 2",
    "compare": COMMANDS["compared"],
}
"""Commands that write often for their length; the last of an option that is given twice counts."""


class Trial(NamedTuple):
    """What became of a command that was killed so often: how the last call ended, and whether the end is the same."""

    kills: int
    code: int
    same: bool


def forked(words: list[str], log: Path | None = None) -> int:
    """Call a command in a process of its own, which is a copy of this one; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        with (
            open(log or os.devnull, "a", buffering=1) as stream,
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
        ):
            code = cli.main(words)
    finally:
        sys.stdout.flush()
        os._exit(code)


def waited(child: int) -> int:
    """Wait for a process; returns its exit code, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(child: int, after: float) -> bool:
    """Kill a process after so many seconds; returns whether it was still running."""
    end = time.monotonic() + after
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(min(0.002, after))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


class Killer:
    """Kills one command, again and again, in a folder of its own."""

    def __init__(self, line: str, world: Path, folder: Path, seed: int = 0) -> None:
        self.folder, self.log = folder / "out", folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        self.words = [*words_of(line, world), "--out", str(self.folder)]
        self.rng = random.Random(seed)
        start = time.monotonic()
        assert waited(forked(self.words, self.log)) == 0, self.log.read_text()
        self.seconds = time.monotonic() - start
        self.whole = result(self.folder)

    def trial(self, kills: int) -> Trial:
        """Kill the command at most so often, let it end, and compare."""
        shutil.rmtree(self.folder)
        done = 0
        for _ in range(kills):
            if not killed(forked(self.words, self.log), self.rng.uniform(0.0, self.seconds)):
                break
            done += 1
        code = waited(forked(self.words, self.log))
        return Trial(done, code, code == 0 and result(self.folder) == self.whole)

    def together(self) -> tuple[list[int], bool]:
        """Start the command twice at once, kill one, and let it end; returns the exit codes, and if the end is same."""
        shutil.rmtree(self.folder)
        first, second = forked(self.words, self.log), forked(self.words, self.log)
        killed(first, self.rng.uniform(0.0, self.seconds))
        codes = [waited(second), waited(forked(self.words, self.log))]
        return codes, result(self.folder) == self.whole


def first_difference(killer: Killer) -> str:
    """Name something in which the end differs, for a message."""
    now = result(killer.folder)
    names = sorted(now.keys() ^ killer.whole.keys()) or [key for key in now if now[key] != killer.whole[key]]
    return f"{names[:3]}; {killer.log.read_text()[-300:]}"
