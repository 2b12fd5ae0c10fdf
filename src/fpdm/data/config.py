"""Which images a run is about, as a frozen configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen

from fpdm.configuration import NonNegativeInt, PositiveInt, configuration

DATASETS = ("digits", "fashion-mnist")
Crop = Literal["lanczos", "adm"]
MANIFEST = "cache.json"
UNKNOWN = "unknown"
"""The source of a model that was imported: nobody said what it was trained on."""


@configuration
class DataConfig:
    """Images to train on, and to be judged by.

    Attributes:
        source: "digits", "fashion-mnist", or the path of a folder of images or of a cache made by fpdm prepare.
        size: Pixels a side that a folder's images are brought to.
        channels: 3 (RGB) or 1 (grey), for a folder.
        conditional: Learn the classes, where there are some; else the model knows none.
        flip: Mirror every training image left to right with probability one half.
        crop: How a folder's images become squares: "lanczos" (the middle square, then Lanczos) or "adm" (halved by
            averages while that is possible, then bicubic, then the middle square: as the images were made that
            published reference statistics are of).

    Raises:
        ValueError: A field outside its range.
    """

    source: Annotated[str, MinLen(1), "digits, fashion-mnist or a folder of images"]
    size: Annotated[PositiveInt, "1 or more pixels"] = 32
    channels: Annotated[Literal[1, 3], "3 (RGB) or 1 (grey)"] = 3
    conditional: bool = True
    flip: bool = False
    crop: Crop = "lanczos"

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder, and no data set that comes by name."""
        return self.source not in DATASETS

    @property
    def is_cache(self) -> bool:
        """Whether the source is a folder that fpdm prepare has filled with latents."""
        return self.is_folder and (Path(self.source) / MANIFEST).is_file()


@configuration
class HubSettings:
    """Which images of a hub data set.

    Attributes:
        split: Which of its splits, as the hub calls it.
        image_column: Where the images are (default: the only column of images).
        label_column: Where the classes are (default: "label", if there is one, or the only column of classes).
        streaming: Read it over the network, and keep no copy on this machine.
    """

    split: str = "train"
    image_column: str = ""
    label_column: str = ""
    streaming: bool = False


@configuration
class CacheSettings:
    """How latents are stored.

    Attributes:
        flip: Store the latents of the mirrored images too, twice the bytes; training mirrors by --flip only then.
        dtype: "float16" or "float32", twice the bytes. float16 rounds a latent by a 2048th of its size at most, a
            twentieth of the least noise that the schedule adds to it.
        shard_size: Images in a file. An interrupted preparation loses less than one shard for each process.
        holdout: Number of images that are kept from training, as the validation split; always the same ones. By default
            a folder is split as fpdm train splits it (of each class 60 % train, 15 % validation, 25 % test), so that
            fpdm compare judges by images that were not trained on, and tar shards and hub data sets are all trained
            on; 0 trains on all images of a folder too.

    Raises:
        ValueError: A field outside its range.
    """

    flip: bool = False
    dtype: Literal["float16", "float32"] = "float16"
    shard_size: PositiveInt = 4096
    holdout: NonNegativeInt | None = None
