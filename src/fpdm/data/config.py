"""Which images a run is about, as a frozen configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fpdm.data.decode import CROPS

DATASETS = ("digits", "fashion-mnist")
MANIFEST = "cache.json"
UNKNOWN = "unknown"
"""The source of a model that was imported: nobody said what it was trained on."""


@dataclass(frozen=True)
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

    source: str
    size: int = 32
    channels: int = 3
    conditional: bool = True
    flip: bool = False
    crop: Literal["lanczos", "adm"] = "lanczos"

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise ValueError(f"source is {self.source!r}; expected {', '.join(DATASETS)} or a folder of images")
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size is {self.size!r}; expected 1 or more pixels")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels!r}; expected 3 (RGB) or 1 (grey)")
        if self.crop not in CROPS:
            raise ValueError(f"crop is {self.crop!r}; expected {' or '.join(CROPS)}")
        for name in ("conditional", "flip"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected true or false")

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder, and no data set that comes by name."""
        return self.source not in DATASETS

    @property
    def is_cache(self) -> bool:
        """Whether the source is a folder that fpdm prepare has filled with latents."""
        return self.is_folder and (Path(self.source) / MANIFEST).is_file()
