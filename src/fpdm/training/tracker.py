"""Send figures and pictures to TensorBoard, Weights & Biases or trackio, through accelerate's trackers."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from fpdm.files import read_text, write_atomically
from fpdm.processes import processes
from fpdm.runs.layout import TENSORBOARD
from fpdm.runs.recipe import Recipe
from fpdm.runs.train_config import TrainConfig

PROJECT = "fpdm"  # name of the project in the other trackers
IDENTITY = ".tracker"  # file with the id by which they know the run


def make_accelerator(config: TrainConfig, out: Path) -> Accelerator:
    """Return the accelerator of a run, with its tracker.

    Args:
        config: How to train.
        out: The run's folder.

    Raises:
        ValueError: The tracker's library is not installed, or accelerate was launched to accumulate gradients itself.
    """
    name = None if config.tracker == "none" else config.tracker
    if name is not None and name not in [str(known) for known in get_available_trackers()]:
        raise ValueError(
            f"tracker is {name!r}, and its library is not installed; pip install {name}, or give --tracker none"
        )
    launched = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if launched != "1":  # accelerate would divide every gradient by it once more
        raise ValueError(
            f"accelerate was launched with {launched} gradient accumulation steps; expected 1; leave them out there, "
            f"and give fpdm train --accumulate {launched}"
        )
    processes()
    return Accelerator(mixed_precision=config.mixed_precision, log_with=name, project_dir=out)


class Tracker:
    """Sends figures and pictures to the run's tracker, which is opened when the first one comes.

    To be used by the main process only.

    Args:
        accelerator: From `make_accelerator`.
        recipe: The recipe of the run.
        out: The run's folder.

    Attributes:
        resumed_at: The step at which the run was resumed; TensorBoard drops what it has of later steps.
    """

    def __init__(self, accelerator: Accelerator, recipe: Recipe, out: Path) -> None:
        self.accelerator, self.recipe, self.out = accelerator, recipe, out
        self.resumed_at = 0

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send figures by name; those that are nan are left out."""
        self._open()
        self.accelerator.log({name: value for name, value in figures.items() if value == value}, step=step)

    def show(self, name: str, picture: np.ndarray, step: int) -> None:
        """Send a picture, (H, W, 3) uint8, if the tracker takes pictures."""
        self._open()
        for tracker in self.accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == TENSORBOARD else {}
            if hasattr(tracker, "log_images"):
                tracker.log_images({name: picture[None]}, step=step, **layout)

    def close(self) -> None:
        """Write what is pending. accelerate's own `end_training` would end the process group too."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers.clear()

    def _open(self) -> None:
        if self.accelerator.trackers or not self.accelerator.log_with:
            return
        name = self.recipe.train.tracker
        if name == TENSORBOARD:
            _wait_for_new_second(self.out / TENSORBOARD)
            # Hyperparameters are left out: with them each resumed run would become a run of its own.
            options = {"purge_step": self.resumed_at + 1}
            self.accelerator.init_trackers(TENSORBOARD, init_kwargs={name: options})
            return
        self.accelerator.init_trackers(PROJECT, asdict(self.recipe), {name: self._options()})

    def _options(self) -> dict[str, Any]:
        """Options that let a resumed run continue its own curve."""
        file = self.out / IDENTITY
        if not file.exists():
            write_atomically(file, uuid.uuid4().hex[:12])
        identity = read_text(file)
        name = f"{self.recipe.name}-{identity}"
        if self.recipe.train.tracker == "trackio":
            return {"name": name, "resume": "allow"}
        return {"name": name, "id": identity, "resume": "allow", "dir": str(self.out)}


def _wait_for_new_second(folder: Path) -> None:
    """Let the second pass in which the newest event file was begun, if it is not over.

    TensorBoard reads the files by name, which begins with whole seconds: what a run writes that is stopped and resumed
    within one second would be read in any order.
    """
    while [*folder.glob(f"events.out.tfevents.{int(time.time())}.*")]:
        time.sleep(0.05)
