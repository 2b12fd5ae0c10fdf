"""Labelled images in memory, and the conversion of pixels between 0..255 on disk and [-1, 1] in a network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.dataset import Examples, mirrored


def to_float(images: Tensor) -> Tensor:
    """Convert pixels 0..255 (uint8, any shape) to float32 in [-1, 1], both ends included."""
    return images.to(torch.float32) / 127.5 - 1.0


def to_uint8(images: Tensor) -> Tensor:
    """Convert pixels in [-1, 1] (floating point, any shape) to uint8, rounded; values outside are clamped.

    Raises:
        ValueError: A pixel is nan.
    """
    if bool(images.isnan().any()):
        raise ValueError(
            f"{int(images.isnan().sum())} of {images.numel()} pixels are nan; expected numbers, from -1 to 1"
        )
    return ((images.to(torch.float32) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, eq=False)
class ImageSet(Examples):
    """A set of labelled images of one size, in memory.

    Attributes:
        name: The data set's name in results.
        images: (N, C, H, W) uint8.
        labels: (N,) int64, each in 0..num_classes - 1; all 0 if there are no classes.
        num_classes: Number of classes, including those without images in this set; 0 if there are none.

    Raises:
        ValueError: There are no images, a tensor has another type or shape, or a label is out of range.
    """

    name: str
    images: Tensor
    labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8 or not self.images.numel():
            raise ValueError(
                f"the images of {self.name!r} are {self.images.dtype} {tuple(self.images.shape)}; "
                "expected uint8 (N, C, H, W) with at least one image"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"the labels of {self.name!r} are {self.labels.dtype} {tuple(self.labels.shape)}; "
                f"expected int64 ({len(self.images)},), one for each image"
            )
        if self.num_classes < 0:
            raise ValueError(f"num_classes of {self.name!r} is {self.num_classes}; expected 0 (no classes) or more")
        low, high = int(self.labels.min()), int(self.labels.max())
        highest = max(self.num_classes - 1, 0)
        if low < 0 or high > highest:
            raise ValueError(f"the labels of {self.name!r} go from {low} to {high}; expected 0 to {highest}")

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def autoencoder(self) -> AutoencoderConfig:
        return AutoencoderConfig()

    def batch(
        self, indices: Sequence[int], draws: Sequence[np.random.Generator] | None = None, *, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.int64)  # (B,)
        images = to_float(self.images[chosen])  # (B, C, H, W)
        turned = torch.from_numpy(mirrored(draws, len(chosen), flip=flip))  # (B,)
        images[turned] = images[turned].flip(-1)  # (B', C, H, W)
        return images, self.labels[chosen]

    def digest(self, into: hashlib._Hash) -> None:
        into.update(str((self.num_classes, *self.images.shape)).encode())
        for tensor in (self.images, self.labels):
            into.update(tensor.contiguous().numpy().data)
