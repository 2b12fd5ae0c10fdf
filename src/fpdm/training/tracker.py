"""TensorBoard and its kin, through accelerate's trackers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from fpdm.files import write_atomically
from fpdm.processes import processes
from fpdm.runs.recipe import Recipe
from fpdm.runs.train_config import TrainConfig

TENSORBOARD = "tensorboard"  # also the name of its folder in the run's
PROJECT = "fpdm"  # of the others
IDENTITY = ".tracker"


def make_accelerator(config: TrainConfig, out: Path) -> Accelerator:
    """The accelerator of a run, with its tracker.

    Args:
        config: How to train.
        out: The run's folder.

    Raises:
        ValueError: The tracker's library is not installed, or accelerate is to accumulate gradients by itself.
    """
    name = None if config.tracker == "none" else config.tracker
    if name is not None and name not in [str(known) for known in get_available_trackers()]:
        raise ValueError(
            f"tracker is {name!r}, and its library is not installed; pip install {name}, or take the tracker 'none'"
        )
    launched = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if launched != "1":  # the accelerator would divide every gradient by it once more
        raise ValueError(
            f"accelerate was launched with {launched} gradient accumulation steps; leave them at 1 there, and give "
            f"fpdm train --accumulate {launched}"
        )
    processes()
    return Accelerator(mixed_precision=config.mixed_precision, log_with=name, project_dir=out)


class Tracker:
    """Sends figures and pictures to the run's tracker, opened when the first comes. On the main process only.

    Args:
        accelerator: From `make_accelerator`.
        recipe: Of the run.
        out: Its folder.
        resumed_at: The step that the run goes on from; what TensorBoard has of later ones it forgets.
    """

    def __init__(self, accelerator: Accelerator, recipe: Recipe, out: Path, *, resumed_at: int) -> None:
        self.accelerator, self.recipe, self.out, self.resumed_at = accelerator, recipe, out, resumed_at

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send figures by name; what is nan is left out."""
        self._open()
        self.accelerator.log({name: value for name, value in figures.items() if value == value}, step=step)

    def show(self, name: str, picture: np.ndarray, step: int) -> None:
        """Send a picture, (H, W, 3) uint8, where the tracker takes pictures."""
        self._open()
        for tracker in self.accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == TENSORBOARD else {}
            if hasattr(tracker, "log_images"):
                tracker.log_images({name: picture[None]}, step=step, **layout)

    def close(self) -> None:
        """Write what is left. Not accelerate's `end_training`, which ends the process group too."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers.clear()

    def _open(self) -> None:
        if self.accelerator.trackers or not self.accelerator.log_with:
            return
        name = self.recipe.train.tracker
        if name == TENSORBOARD:
            # The recipe as hyperparameters would make a run of its own of each resumed one.
            options = {"purge_step": self.resumed_at + 1}
            self.accelerator.init_trackers(TENSORBOARD, init_kwargs={name: options})
            return
        self.accelerator.init_trackers(PROJECT, asdict(self.recipe), {name: self._options()})

    def _options(self) -> dict[str, Any]:
        """So that a resumed run goes on with the same curve."""
        file = self.out / IDENTITY
        if not file.exists():
            write_atomically(file, uuid.uuid4().hex[:12])
        identity = file.read_text(encoding="utf-8")
        name = f"{self.recipe.name}-{identity}"
        if self.recipe.train.tracker == "trackio":
            return {"name": name, "resume": "allow"}
        return {"name": name, "id": identity, "resume": "allow", "dir": str(self.out)}
