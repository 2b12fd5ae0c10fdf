"""Measure what a machine can train per second, by a few timed steps."""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from fpdm.data.config import DataConfig
from fpdm.data.images import ImageSet
from fpdm.devices import default_device
from fpdm.models.cost import model_cost
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from fpdm.training.autoencoder.trainer import AutoencoderTrainer
from fpdm.training.dry_run import BlankImages, quiet, time_step
from fpdm.training.memory import mean_draw
from fpdm.training.trainer import Trainer

IMAGES, TIMED = 16, 2  # images of a step, and timed steps after one that is not
SIDE = 64  # pixels of the images on which the autoencoder is timed


class MeasuredSpeed:
    """The speed of this machine: measured once on one network, and extrapolated to others by their compute.

    Args:
        recipe: A recipe whose network is timed, of whatever size.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = replace(recipe, train=replace(recipe.train, batch_size=IMAGES))

    @property
    def machine(self) -> str:
        """The machine in words."""
        device = default_device()
        if device.type == "cpu":
            threads = torch.get_num_threads()
            return f"this CPU ({threads} thread{'s' if threads > 1 else ''})"
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def images_per_second(self, recipe: Recipe) -> float:
        """Return how many images per second a training by this recipe takes."""
        return self._macs_per_second / _image_macs(recipe)

    def autoencoder_images_per_second(self, shape: AutoencoderShape, image: tuple[int, int, int]) -> float:
        """Return how many images (C, H, W) per second the training of an autoencoder takes."""
        return self._autoencoder(shape) * SIDE**2 / (image[1] * image[2])

    @functools.cached_property
    def _macs_per_second(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(quiet(self.recipe), BlankImages(self.recipe), Path(folder) / "run")
            steps = [time_step(trainer, step, IMAGES) for step in range(TIMED + 1)][1:]
        # A few draws of n and m are no mean: what counts is what was computed.
        return sum(step.macs for step in steps) / sum(step.seconds for step in steps)

    @functools.cache  # noqa: B019  (lives as long as the command)
    def _autoencoder(self, shape: AutoencoderShape) -> float:
        blank = ImageSet("blank", torch.zeros(IMAGES, 3, SIDE, SIDE, dtype=torch.uint8), torch.zeros(IMAGES).long(), 0)
        config = AutoencoderTrainConfig(steps=1, batch_size=IMAGES)
        recipe = AutoencoderRecipe(DataConfig("digits"), replace(shape, pad=0), config, "")
        with tempfile.TemporaryDirectory() as folder:
            trainer = AutoencoderTrainer(recipe, blank, Path(folder))
            trainer.step(Progress())
            start = time.perf_counter()
            for step in range(TIMED):
                trainer.step(Progress(step=step + 1))
            return TIMED * IMAGES / (time.perf_counter() - start)


def _image_macs(recipe: Recipe) -> float:
    cost = model_cost(recipe.model)
    draw = mean_draw(recipe.train.make_gradient(), cost.middle)
    return cost.training_macs(draw.iterations, draw.no_grad_iterations)
