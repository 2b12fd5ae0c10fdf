"""Read and write many images in one `.npz`, as in ADM's evaluation suite (Dhariwal and Nichol 2021), in parts."""

from __future__ import annotations

import lzma
import math
import os
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

_ARRAY = "arr_0"
DAMAGE = (  # what reading an .npz may raise whose bytes are not what they were: RuntimeError says it is encrypted
    *(OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, RuntimeError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)


def write_images(path: Path, images: Iterable[Tensor], count: int, size: tuple[int, int]) -> None:
    """Write `arr_0`, uint8 (N, H, W, 3), atomically; grey images are repeated to three channels.

    Args:
        path: The file.
        images: The images in order, in parts (B, C, H, W) uint8 with C of 1 or 3.
        count: Number of images, N.
        size: Size of the images, (H, W).
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
            archive.open(f"{_ARRAY}.npy", "w", force_zip64=True) as file,
        ):
            head = {"descr": "|u1", "fortran_order": False, "shape": (count, *size, 3)}
            np.lib.format.write_array_header_1_0(file, head)
            written = 0
            for part in images:
                rgb = part.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)  # (B, H, W, 3)
                file.write(rgb.contiguous().numpy().tobytes())
                written += len(part)
            assert written == count
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class ImageArchive:
    """The images of an `.npz`: `arr_0`, uint8 (N, H, W, 3).

    Args:
        path: The file.

    Raises:
        ValueError: The file has no such images.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{_ARRAY}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                self._offset = file.tell()
        except DAMAGE as error:
            raise ValueError(f"{path} holds no images: {error}; expected an .npz with {_ARRAY}") from error
        if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] != 3 or not math.prod(shape):
            raise ValueError(f"{_ARRAY} of {path} is {dtype} {shape}; expected uint8 (N, H, W, 3)")
        self.shape = cast(tuple[int, int, int, int], shape)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, places: range) -> Tensor:
        """Read the images in this range: (B, 3, H, W) uint8.

        Raises:
            ValueError: The file is damaged there.
        """
        each = math.prod(self.shape[1:])
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{_ARRAY}.npy") as file:
                file.seek(self._offset + places.start * each)
                content = bytearray(file.read(len(places) * each))
        except DAMAGE as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error
        if len(content) != len(places) * each:
            raise ValueError(f"{self.path} is damaged: it ends before image {places.stop}")
        images = torch.frombuffer(content, dtype=torch.uint8).view(-1, *self.shape[1:])  # (B, H, W, 3)
        return images.permute(0, 3, 1, 2)  # (B, 3, H, W)
