"""A run's folder: the names of its files, the lock on it, and the trained model in it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fpdm.files import write_atomically
from fpdm.models import DiffusionTransformer
from fpdm.training import checkpoint
from fpdm.training.config import Recipe
from fpdm.training.progress import Progress

RECIPE = "recipe.json"
METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
LOSS_CURVE = "loss.png"
SAMPLES = "samples"
README = "README.md"
CHECKPOINTS = "checkpoints"
WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' name
MODEL, EMA, OPTIMIZER = f"model/{WEIGHTS}", f"ema/{WEIGHTS}", "optimizer.safetensors"


@contextmanager
def hold(out: Path) -> Iterator[None]:
    """Hold a run's folder against a second run.

    Raises:
        ValueError: Another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    # The system frees the lock of a process that dies, so none goes stale.
    lock, holder = FileLock(out / ".lock"), out / ".holder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        raise ValueError(f"{out} is in use by {who}; wait for it, or choose another folder") from None
    try:
        if holder.exists():
            dead = holder.read_text(encoding="utf-8")
            warnings.warn(f"{out} was held by {dead}, which is gone; taking it over", RuntimeWarning, stacklevel=4)
        write_atomically(holder, f"process {os.getpid()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class Run:
    """A trained run, read from its folder.

    Attributes:
        recipe: What it was trained by.
        model: The network with averaged weights, in evaluation mode.
        progress: How far it had come.
        weights: The averaged weights' SHA-256.
    """

    recipe: Recipe
    model: DiffusionTransformer
    progress: Progress
    weights: str


def load_run(out: Path) -> Run:
    """Load the newest whole checkpoint of a run, also of one that is still training.

    Raises:
        ValueError: There is no run in the folder, or no checkpoint yet.
        CheckpointError: All checkpoints are damaged, or the newest whole one does not fit its recipe.
    """
    try:
        return _load_newest(out)
    except FileNotFoundError:
        # A run that is still training deleted the checkpoint while it was being read; there is a newer one.
        return _load_newest(out)


def _load_newest(out: Path) -> Run:
    found = checkpoint.latest(out / CHECKPOINTS)
    if found is None:
        raise ValueError(f"there is no run with a checkpoint in {out}; expected a folder made by fpdm train --out")
    recipe = Recipe.from_json((found.path / RECIPE).read_text(encoding="utf-8"))
    model = DiffusionTransformer.from_shape(recipe.model)
    weights = found.tensors(EMA)
    checkpoint.check_names(found.path / EMA, weights, dict(model.named_parameters()))
    model.load_state_dict(weights)
    progress = Progress(**{key: found.state[key] for key in asdict(Progress())})
    return Run(recipe, model.eval(), progress, found.hashes[EMA])
