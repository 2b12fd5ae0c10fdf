"""`fpdm train-autoencoder`: a small autoencoder, on whose latents diffusion models can be trained."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fpdm.commands.options import Fields, Result
from fpdm.configuration import Workers
from fpdm.data.config import DataConfig
from fpdm.training.autoencoder.config import AUTOENCODER, AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig

MAIN_OPTIONS = ("out", "seconds", "size", "channels", "latent_channels", "batch_size")
_NETWORK, _TRAINING, _IMAGES = AutoencoderShape(), AutoencoderTrainConfig(), DataConfig("digits")


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the limit on steps where there is one on seconds."""
    if "steps" in given or not given.get("seconds"):
        return {}
    return {"training": replace(_TRAINING, steps=0, seconds=given["seconds"])}


def train_autoencoder(
    data: str,
    *,
    out: Path,
    data_root: Path | None = None,
    strict: bool = False,
    workers: Workers | None = None,
    network: Annotated[AutoencoderShape, Fields()] = _NETWORK,
    training: Annotated[AutoencoderTrainConfig, Fields()] = _TRAINING,
    images: Annotated[DataConfig, Fields(without=("source",))] = _IMAGES,
    line: str = "",
) -> Result:
    """Train a small autoencoder for latent diffusion, where no published one suits.

    Args:
        data: Folder of images, or digits or fashion-mnist.
        out: Folder for the autoencoder, in the hub's layout, and for a report of its quality. The same command resumes
            an interrupted training.
        data_root: Folder with the files of a data set that is given by name.
        strict: Stop at the first image that cannot be read, instead of skipping it.
        workers: Threads that read a folder's images (default: one per core, at most 8).
        network: The shape of the autoencoder.
        training: How to train. With --seconds, --steps is 0 unless you give it.
        images: How the images of a folder are used.
        line: The command line, recorded in the report.
    """
    config = replace(images, source=data)
    AUTOENCODER.check(out, {"image folder": config.folder})
    config.check_options(_IMAGES)
    if config.is_folder:
        config = replace(config, source=os.path.realpath(data))
    from fpdm.data.loading import load_images
    from fpdm.devices import default_device
    from fpdm.training.autoencoder.finalise import check_enough_images, finalise
    from fpdm.training.autoencoder.trainer import AutoencoderTrainer, check_fits

    if config.is_folder:  # before the images are read; the trainer checks those of other data sets
        shape = (config.channels, config.size, config.size)
        check_fits(network, training.batch_size, shape, device=default_device())
    dataset = load_images(config, root=data_root, strict=strict, workers=workers, learn_classes=False)
    check_enough_images(dataset.splits)
    trainer = AutoencoderTrainer(
        AutoencoderRecipe(config, network, training, dataset.sha256), dataset.splits.train, out
    )
    if dataset.summary is not None:
        print(dataset.summary.to_text(), file=sys.stderr)
    with AUTOENCODER.hold(out):
        trainer.train()
        return finalise(trainer, dataset.splits, command=line)
