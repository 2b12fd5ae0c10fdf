"""`fpdm prepare`: a cache of latents to train on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.commands.options import Fields, Result
from fpdm.configuration import BatchSize, Workers
from fpdm.data.config import CacheSettings, DataConfig, HubSettings
from fpdm.data.manifest import CACHE

MAIN_OPTIONS = ("out", "autoencoder", "size", "crop", "batch_size", "workers")
_IMAGES, _CACHE, _HUB = DataConfig("digits", size=256, crop="adm"), CacheSettings(), HubSettings()


def prepare(
    data: str,
    *,
    out: Path,
    autoencoder: str,
    pad: int | None = None,
    data_root: Path | None = None,
    strict: bool = False,
    batch_size: BatchSize = 32,
    workers: Workers | None = None,
    device: str = "",
    images: Annotated[DataConfig, Fields(without=("source", "channels", "conditional", "flip"))] = _IMAGES,
    cache: Annotated[CacheSettings, Fields()] = _CACHE,
    hub_data_set: Annotated[HubSettings, Fields()] = _HUB,
) -> Result | None:
    """Encode images into a latent cache to train on; resumable and parallel.

    The same command continues an interrupted preparation and repairs a damaged cache. Under accelerate launch or
    torchrun, the processes share the work.

    Args:
        data: Folder of images, with one subfolder per class if there are classes; folder of tar shards in the
            WebDataset layout; hub id of a data set, or a folder of its .parquet or .arrow files; digits or
            fashion-mnist.
        out: Folder for the cache, which fpdm train --data reads.
        autoencoder: Path or hub id of an AutoencoderKL, such as stabilityai/sd-vae-ft-ema or a folder written by fpdm
            train-autoencoder.
        pad: Black pixels added to each side of an image before encoding, and removed after decoding (default: as the
            autoencoder was trained).
        data_root: Folder with the files of a data set that is given by name.
        strict: Stop at the first image that cannot be used, instead of skipping it.
        batch_size: Images encoded at once by each process.
        workers: Threads that decode images in each process (default: one per core, at most 8).
        device: Device to encode on: cpu, cuda, cuda:1 or mps (default: the best available, one per process).
        images: How images become squares of the right size. For image files only.
        cache: How the latents are stored.
        hub_data_set: Which images of a data set on the hub are used.
    """
    config = replace(images, source=data)
    CACHE.check(out, {"image folder": config.folder})
    config.check_options(_IMAGES)
    if config.is_folder and Path(data).exists():
        config = replace(config, source=os.path.realpath(data))
    from fpdm.autoencoder.vae import VAE
    from fpdm.data import prepare as module
    from fpdm.devices import default_device, device_of
    from fpdm.processes import local_processes

    device = device or str(default_device())
    if device == "cuda":
        device = f"cuda:{local_processes()[0]}"
    source = os.path.realpath(autoencoder) if autoencoder and Path(autoencoder).exists() else autoencoder
    encoder = AutoencoderConfig(source, pad=pad).load(device_of(device))
    if not isinstance(encoder, VAE):
        raise ValueError("--autoencoder is empty; expected a hub id or a folder")
    return module.prepare(
        config,
        encoder,
        out,
        cache,
        hub=hub_data_set,
        root=data_root,
        batch_size=batch_size,
        workers=workers,
        strict=strict,
    )
