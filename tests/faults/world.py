"""A folder with everything the commands read and make, very small; and commands called in this process."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fpdm import cli
from tests.autoencoders import tiny
from tests.evaluation.scripts import Small, saved
from tests.importing import foreign_checkpoints
from tests.oracle import authors
from tests.trained import train_fpdm_and_dit

NETWORK = "--patch-size 2 --width 8 --heads 2 --pre-blocks 1 --post-blocks 1"
TRAINING = (
    "--batch-size 4 --validate-every 0 --sample-every 0 --tracker none --log-every 1 --no-grad-iters 1 --grad-iters 1"
)
COMMANDS = {
    "ref.npz": "reference digits --split test --extractor @small.pt",
    "cache": "prepare @images --autoencoder @ae --size 8 --shard-size 6",
    "folder-run": f"train --data @images --size 8 --channels 1 --steps 2 {NETWORK} {TRAINING}",
    "latent-run": f"train --data @cache --steps 2 {NETWORK} {TRAINING}",
    "autoencoder": "train-autoencoder digits --steps 1 --stage-channels 4 4 --batch-size 4",
    "sampled": "sample @run --num-images 3 --budget 8 --iterations 2",
    "evaluated": "evaluate @run --reference @ref.npz --extractor @small.pt --num-images 8 --piece-size 4 --budget 8 "
    "--iterations 2",
    "compared": "compare @run --budgets 8 --iterations 2 --reuse always --grids trailing --allocations constant "
    "--num-images 12 --choosing-images 12",
    "imported": "import @dit.pt --heads 3",
}
"""What makes each result of a command, in this order."""


class Said(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


class TooLongError(BaseException):
    """A command takes too long; nothing of ours may catch it."""


def words_of(line: str, world: Path) -> list[str]:
    """The words of a command line, in which @ stands for the world's folder."""
    return [str(world / word[1:]) if word.startswith("@") else word for word in shlex.split(line)]


def called(words: list[str]) -> Said:
    """Call a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(words)
    return Said(code, out.getvalue(), err.getvalue())


def made(line: str, world: Path, out: Path | str) -> Said:
    """Call a command that has to succeed."""
    said = called([*words_of(line, world), "--out", str(out)])
    assert said.code == 0, said.err
    return said


@contextlib.contextmanager
def limited(seconds: int, waiting: int) -> Iterator[None]:
    """Raise `TooLongError` after so many seconds of computing, or of waiting for something that never comes."""

    def stop(number: int, _: object) -> None:
        raise TooLongError(signal.Signals(number).name)

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, waiting))
    old = {number: signal.signal(number, stop) for _, number, _ in timers}
    for timer, _, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, number, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, old[number])


def make_images(folder: Path, count: int = 24) -> Path:
    """Images of two classes."""
    rng = np.random.default_rng(1)
    for i in range(count):
        path = folder / ("ant", "bee")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return folder


def make_sources(world: Path) -> Path:
    """Make what users bring: images, an autoencoder, a network for features, another program's checkpoint."""
    make_images(world / "images")
    tiny(world / "ae", channels=1, scaling_factor=1.0)
    saved(Small(), world / "small.pt")
    pixels = authors.Size(width=24, heads=3, patch=4, side=8, channels=1, out=2, classes=5, mlp=96)
    foreign_checkpoints.save(world / "dit.pt", foreign_checkpoints.dit(2, pixels))
    return world


def make_world(world: Path) -> Path:
    """Make what users bring, and from it what the commands make."""
    make_sources(world)
    runs = train_fpdm_and_dit(world)
    runs["fpdm"].rename(world / "run")
    for name, line in COMMANDS.items():
        made(line, world, world / name)
    return world


def fingerprint(*folders: Path) -> dict[str, str]:
    """Everything below some folders: the hash of each file, the target of each link, the kind of everything else."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                found[str(path)] = f"link to {os.readlink(path)}"
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path)] = "folder" if path.is_dir() else "other"
    return found
