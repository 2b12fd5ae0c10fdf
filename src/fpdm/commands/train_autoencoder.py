"""`fpdm train-autoencoder`: a small autoencoder, whose latents diffusion models can be trained on."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from fpdm.commands.folders import apart, writable
from fpdm.commands.options import Command, Given, Group
from fpdm.data.config import DataConfig
from fpdm.data.loading import load_images
from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from fpdm.training.autoencoder.finalise import AutoencoderReport, check_judgeable, finish
from fpdm.training.autoencoder.trainer import AutoencoderTrainer

_SHAPE, _TRAINING, _IMAGE = AutoencoderShape(), AutoencoderTrainConfig(), DataConfig("digits")


@dataclass(frozen=True, kw_only=True)
class TrainAutoencoder(Command):
    """Train a small autoencoder on images; the same command resumes an interrupted training.

    Attributes:
        data: Folder of images, or digits or fashion-mnist.
        out: Folder for the autoencoder, in the hub's layout, with a report. The same command goes on with a training
            that was interrupted.
        data_root: Folder with the own files of a data set that comes by name.
        strict: Stop at an image that cannot be read, instead of leaving it out.
        workers: Threads that read a folder's images (default: one for each core, 8 at most).
        network: The autoencoder's shape.
        training: How to train. With --seconds, --steps is 0 unless it is given.
        image: How a folder's images are used.
    """

    data: Positional[str]
    out: Path
    data_root: Path | None = None
    strict: bool = False
    workers: int | None = None
    network: AutoencoderShape = _SHAPE
    training: AutoencoderTrainConfig = _TRAINING
    image: Annotated[DataConfig, Group(without=("source",))] = _IMAGE

    @classmethod
    def defaults(cls, given: Given) -> dict[str, Any]:
        """No limit of steps where there is one of seconds."""
        training = given.get("training", {})
        if "seconds" in training and "steps" not in training:
            return {"training": replace(_TRAINING, steps=0, seconds=training["seconds"])}
        return {}

    def execute(self) -> AutoencoderReport:
        """Train, save, judge."""
        writable(self.out)
        config = replace(self.image, source=self.data)
        if config.is_folder:
            config = replace(config, source=str(Path(self.data).resolve()))
            apart(self.out, Path(config.source))
        dataset = load_images(config, root=self.data_root, strict=self.strict, workers=self.workers)
        if dataset.summary is not None:
            print(dataset.summary.to_text(), file=sys.stderr)
        check_judgeable(dataset.splits)
        recipe = AutoencoderRecipe(config, self.network, self.training, dataset.sha256)
        trainer = AutoencoderTrainer(recipe, dataset.splits.train, self.out)
        trainer.train()
        return finish(trainer, dataset.splits, command=self.line)
