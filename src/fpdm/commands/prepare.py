"""`fpdm prepare`: images to latents on disk, to train on."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.commands.folders import apart, writable
from fpdm.commands.options import Command, Group
from fpdm.data.config import CacheSettings, DataConfig, HubSettings
from fpdm.data.prepare import Prepared, prepare
from fpdm.devices import default_device, device_of

_IMAGE, _SETTINGS, _HUB = DataConfig("digits", size=256, crop="adm"), CacheSettings(), HubSettings()


@dataclass(frozen=True, kw_only=True)
class Prepare(Command):
    """Encode images into a cache of latents; the same command goes on with an interrupted one, and mends a damaged one.

    Attributes:
        data: Folder of images, with a folder for each class if there are classes; folder of tar shards as WebDataset
            lays them out; a hub data set by its name, or its .parquet or .arrow files; or digits or fashion-mnist.
        out: Folder of the cache, for fpdm train --data.
        autoencoder: Name on the hub, or folder in the hub's layout, of an AutoencoderKL, such as
            stabilityai/sd-vae-ft-ema or what fpdm train-autoencoder makes.
        pad: Black pixels that each side of an image gets before it is encoded, and loses after it is decoded (default:
            as the autoencoder was trained).
        data_root: Folder with the own files of a data set that comes by name.
        strict: Stop at an image that cannot be used, instead of leaving it out.
        batch_size: Images that are encoded at once, by each process.
        workers: Threads that decode images, in each process (default: one for each core, 8 at most).
        device: Where to encode: cpu, cuda, cuda:1 or mps (default: the best there is, for each process its own).
        image: How a folder's images are used.
        settings: How latents are stored.
        hub: Which images of a hub data set.
    """

    data: Positional[str]
    out: Path
    autoencoder: str
    pad: int | None = None
    data_root: Path | None = None
    strict: bool = False
    batch_size: int = 32
    workers: int | None = None
    device: str = ""
    image: Annotated[DataConfig, Group(without=("source", "channels", "conditional", "flip"))] = _IMAGE
    settings: CacheSettings = _SETTINGS
    hub: HubSettings = _HUB

    def execute(self) -> Prepared | None:
        """Encode them."""
        writable(self.out)
        config = replace(self.image, source=self.data)
        if not config.is_folder and self.image != _IMAGE:
            raise ValueError(f"--size and --crop are for image files; the images of {self.data} are taken as they are")
        if config.is_folder and Path(self.data).exists():
            config = replace(config, source=str(Path(self.data).resolve()))
            apart(self.out, Path(config.source))
        device = self.device or str(default_device())
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        source = str(Path(self.autoencoder).resolve()) if Path(self.autoencoder).exists() else self.autoencoder
        found = AutoencoderConfig(source, pad=self.pad).load(device_of(device))
        if not isinstance(found, VAE):
            raise ValueError("--autoencoder is empty; expected a name on the hub or a folder")
        return prepare(
            config,
            found,
            self.out,
            self.settings,
            hub=self.hub,
            root=self.data_root,
            batch_size=self.batch_size,
            workers=self.workers,
            strict=self.strict,
        )
