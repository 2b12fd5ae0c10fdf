"""Grids and strips of images, and PNG files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fpdm.files import write_atomically

QUALITY = 85  # of photographs in a page, of 100


def to_array(images: Tensor) -> np.ndarray:
    """Convert images (N, C, H, W) uint8 to (N, H, W, 3) uint8; a single channel is repeated."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"the images have {images.shape[1]} channels; expected 1 (grey) or 3 (RGB)")
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class Png:
    """A PNG and its size on a page.

    Attributes:
        data: Content of the file.
        width: Width in pixels of the page. The file may have more pixels, for sharp screens.
        height: Height in pixels of the page.
    """

    data: bytes
    width: int
    height: int

    @classmethod
    def of(cls, image: Image.Image, width: int) -> Png:
        """Encode an image that is `width` pixels wide on a page."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return cls(buffer.getvalue(), width, round(image.height * width / image.width))

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        write_atomically(path, self.data)

    def webp(self) -> bytes:
        """Return the picture as WebP: a plot, which has a palette, to the pixel, and photographs nearly so.

        Beside a PNG it is a fifth to a half as large, which keeps a page of many pictures small.
        """
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(self.data)) as image:
            exact = image.mode == "P"
            image.convert("RGB" if exact else None).save(
                buffer, "WEBP", lossless=exact, quality=100 if exact else QUALITY, method=4
            )
        return buffer.getvalue()


def save_png(image: np.ndarray, path: Path) -> None:
    """Write an image (H, W) or (H, W, 3) uint8 as a PNG, atomically."""
    Png.of(Image.fromarray(image), image.shape[1]).save(path)


def tile(images: Tensor, columns: int, *, gap: int) -> np.ndarray:
    """Arrange images (N, C, H, W) uint8 in a grid (h, w, 3) uint8, with `gap` white pixels between them."""
    # Not torchvision's make_grid: it adds a margin, narrows a grid of few images and treats a single one differently.
    n, _, h, w = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, h + gap, w + gap, 3), 255, np.uint8)
    cells[:n, :h, :w] = to_array(images)
    grid = cells.reshape(rows, columns, h + gap, w + gap, 3).swapaxes(1, 2)  # (rows, h + gap, columns, w + gap, 3)
    return grid.reshape(rows * (h + gap), columns * (w + gap), 3)[: rows * (h + gap) - gap, : columns * (w + gap) - gap]


def images_to_png(images: Tensor, columns: int) -> bytes:
    """Encode images (N, C, H, W) uint8 as one PNG without loss, `columns` of them in a row."""
    grid = tile(images, columns, gap=0)
    return Png.of(Image.fromarray(grid[..., 0] if images.shape[1] == 1 else grid), grid.shape[1]).data


def images_from_png(data: bytes, columns: int, rows: int = 1) -> Tensor:
    """Decode the images of `images_to_png`: (rows * columns, C, H, W) uint8.

    Raises:
        ValueError: The file is damaged or not a PNG, or its size is not a multiple of the numbers of images.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            grid = np.atleast_3d(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")))
    except UnidentifiedImageError:
        raise ValueError("it is no PNG") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError is a damaged PNG's
        raise ValueError(str(error)) from error
    height, width, channels = grid.shape
    if columns < 1 or rows < 1 or height % rows or width % columns:
        raise ValueError(f"it is {width} x {height}; expected {columns} x {rows} images of equal size")
    cells = grid.reshape(rows, height // rows, columns, width // columns, channels).transpose(0, 2, 4, 1, 3)
    return torch.from_numpy(cells.reshape(rows * columns, channels, height // rows, width // columns).copy())


def enlarged(images: Tensor) -> Tensor:
    """Enlarge images (N, C, H, W) uint8 to at least 64 pixels a side, bicubic."""
    side = images.shape[3]
    wide = F.interpolate(images.float(), scale_factor=max(1, -(-64 // side)), mode="bicubic")  # (N, C, h, w)
    return wide.round().clamp(0, 255).to(images.dtype)  # (N, C, h, w)


def strip(images: Tensor, side: int, *, shown: int, gap: int = 3) -> Png:
    """Draw images (N, C, H, W) uint8 side by side, `side` pixels high and `shown` on a page, with transparent gaps."""
    pixels = resized(images, side).permute(0, 2, 3, 1).cpu().numpy()  # (N, h, w, C)
    n, h, w, channels = pixels.shape
    picture = np.zeros((h, n * (w + gap) - gap, channels + 1), np.uint8)  # (h, n (w + gap) - gap, C + alpha)
    for i in range(n):
        left = i * (w + gap)
        picture[:, left : left + w, :channels] = pixels[i]
        picture[:, left : left + w, channels] = 255
    return Png.of(Image.fromarray(picture), picture.shape[1] * shown // side)


def resized(images: Tensor, side: int) -> Tensor:
    """Resize images (N, C, H, W) uint8 to a height of `side` pixels, bicubic."""
    ratio = side / images.shape[2]
    size = (side, max(1, round(images.shape[3] * ratio)))
    resized = F.interpolate(images.float(), size=size, mode="bicubic", antialias=ratio < 1)  # (N, C, h, w)
    return resized.round().clamp(0, 255).to(images.dtype)  # (N, C, h, w)
