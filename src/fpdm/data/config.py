"""Configurations of images and of the cache of their latents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen

from fpdm.configuration import NonNegativeInt, Pixels, PositiveInt, configuration

DATASETS = ("digits", "fashion-mnist")
Crop = Literal["lanczos", "adm"]
MANIFEST = "cache.json"
SPLIT_SHARES = {"train": 0.60, "validation": 0.15, "test": 0.25}
"""The share of each split in a folder's images."""
LEAST_SHARE = 0.5
"""The least part of its share that a split has; tiny classes would leave less."""
UNKNOWN = "unknown"
"""The source of imported models, whose training images are not known."""


@configuration
class DataConfig:
    """The images of a run, for training, validation and test.

    Attributes:
        source: "digits", "fashion-mnist", or the path of a folder of images or of a cache made by fpdm prepare.
        size: Height and width in pixels to which the images of a folder are resized.
        channels: Number of colour channels of a folder's images: 3 (RGB) or 1 (grey).
        conditional: Learn the classes, if there are any; otherwise the model is unconditional.
        flip: Mirror every training image left to right with probability one half.
        crop: How the images of a folder become squares: "lanczos" (the central square, resized by Lanczos) or "adm"
            (box filters, then bicubic, then the central square, as in ADM; published reference statistics are made like
            this).

    Raises:
        ValueError: A field outside its range.
    """

    source: Annotated[str, MinLen(1), "digits, fashion-mnist or a folder of images"]
    size: Annotated[Pixels, "1 to 65,536 pixels"] = 32
    channels: Annotated[Literal[1, 3], "3 (RGB) or 1 (grey)"] = 3
    conditional: bool = True
    flip: bool = False
    crop: Crop = "lanczos"

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder and not a data set that is given by name."""
        return self.source not in DATASETS

    @property
    def folder(self) -> Path | None:
        """The folder of the images or latents; None for a data set that is given by name."""
        return Path(self.source) if self.is_folder else None

    def check_options(self, defaults: DataConfig) -> None:
        """Check that nothing is asked of a data set that is given by name which only image files allow.

        Raises:
            ValueError: The size, the channels or the crop are not the defaults.
        """
        given = [name for name in ("size", "channels", "crop") if getattr(self, name) != getattr(defaults, name)]
        if given and not self.is_folder:
            raise ValueError(f"--{given[0]} is for image files; the images of {self.source} are taken as they are")

    @property
    def is_cache(self) -> bool:
        """Whether the source is a cache of latents, written by fpdm prepare."""
        return self.is_folder and (Path(self.source) / MANIFEST).is_file()


@configuration
class HubSettings:
    """Which images of a data set on the hub to use.

    Attributes:
        split: Name of the split on the hub.
        image_column: Column with the images (default: the only column of images).
        label_column: Column with the classes (default: "label" if there is one, otherwise the only column of classes).
        streaming: Read the images over the network without keeping a copy on this machine.
    """

    split: str = "train"
    image_column: str = ""
    label_column: str = ""
    streaming: bool = False


@configuration
class CacheSettings:
    """How to store latents.

    Attributes:
        flip: Store the latents of the mirrored images too, which doubles the size; needed for training with --flip.
        dtype: "float16", or "float32" with twice the size. float16 rounds a latent by at most 1/2048 of its value, a
            twentieth of the smallest noise that the schedule adds.
        shard_size: Images per file. An interrupted preparation loses less than one file per process.
        holdout: Number of images to keep from training as the validation split, always the same ones. By default, a
            folder is split as by fpdm train (60 % of each class train, 15 % validation, 25 % test), so that fpdm
            compare uses images that were not trained on, and tar shards and hub data sets are used for training
            entirely. 0 uses all images of a folder for training too.

    Raises:
        ValueError: A field outside its range.
    """

    flip: bool = False
    dtype: Literal["float16", "float32"] = "float16"
    shard_size: PositiveInt = 4096
    holdout: NonNegativeInt | None = None
