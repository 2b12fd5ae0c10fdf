"""Kill commands by SIGKILL at random moments, start them again, and compare the end with an undisturbed one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch

from fpdm import cli
from tests.faults.crashes import result
from tests.faults.world import COMMANDS, NETWORK, TRAINING, words_of

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "torch",
        "diffusers",
        "accelerate",
        "scipy.linalg",
        "sklearn.datasets",
        "matplotlib.pyplot",
        "fpdm.training.trainer",
    ]
)
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


def started(function: Callable[..., int], *arguments: object) -> BaseProcess:
    """Call a function in a process of its own, which ends with what it returns.

    It is a copy of a process that has imported much and done nothing, because autograd refuses to work in a copy of a
    process in which it has threads, as the tests' own may have.
    """
    process = _CONTEXT.Process(target=_left, args=(dict(os.environ), torch.get_num_threads(), function, arguments))
    process.start()
    return process


def _left(
    environment: dict[str, str], threads: int, function: Callable[..., int], arguments: tuple[object, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    sys.exit(function(*arguments))


def forked(words: list[str], log: Path | None = None, before: Callable[[], object] = int) -> BaseProcess:
    """Call a command in a process of its own, after something else there."""
    return started(_logged, words, log or Path(os.devnull), before)


def _logged(words: list[str], log: Path, before: Callable[[], object]) -> int:
    with (
        open(log, "a", buffering=1) as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        before()
        return cli.main(words)


def waited(child: BaseProcess) -> int:
    """Wait for a process; returns its exit code, negative if a signal ended it."""
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def killed(child: BaseProcess, after: float) -> bool:
    """Kill a process after so many seconds; returns whether it was still running."""
    child.join(after)
    if child.exitcode is not None:
        return False
    child.kill()
    child.join()
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
