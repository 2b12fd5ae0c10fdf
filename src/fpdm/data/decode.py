"""Decode image files of any kind to pixels of one size, or to the reason why that fails."""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# An explicit list: some of Pillow's other formats start a program, and some accept any bytes.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Files with other endings are ignored. Those of HEIF are here to be reported as unreadable.
ENDINGS = {
    *("", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}


_LARGE = 2**24  # pixels, beyond which an image costs much memory
_MOST_COMPRESSED = 500  # of photographs and drawings at most some dozens, of white pages 300; of a PNG bomb 1000
# Pixels, beyond which an image takes a second of a core; up to `_LARGE`, drawings of few strokes are let pass.
_SLOW = 2**22
_BLANK = {"PNG": 900, "GIF": 900}  # all but what is of one colour throughout; Deflate reaches 1032
_OTHER_BLANK = 10_000
_MEMORY = 2**30  # bytes that the images in all threads may take at once; a larger image waits until it is alone
# What a pixel takes while it is decoded and converted, measured; twice that with transparency and in these formats,
# whose decoders hold the image a second time.
_BYTES = 10
_TWICE = ("AVIF", "JPEG2000", "WEBP")


class _Refused(Exception):
    """Raised for an image that can be decoded but must not be used."""


class Decoded(NamedTuple):
    """A decoded and resized image.

    Attributes:
        pixels: (C, H, W) uint8.
        width: Width of the image as it is seen (after EXIF rotation), before it was resized.
        height: Its height, likewise.
    """

    pixels: np.ndarray
    width: int
    height: int


class Decoder:
    """Decodes images of any kind to squares of one size, RGB or grey in 8 bits.

    An image is rotated as its EXIF data say; of an animation the first frame is taken; 16 bits are scaled to 8;
    transparent pixels are laid on the background; colour profiles are not applied. The square in the middle is resized
    by the method that `crop` names.

    Args:
        size: Height and width.
        channels: 3 for RGB, 1 for grey.
        crop: One of `CROPS`; see `DataConfig`.
        background: RGB, 0..255, seen where an image is transparent.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, size: int, channels: int = 3, crop: str = "lanczos", background: tuple[int, int, int] = (255, 255, 255)
    ) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; expected 1 or more pixels")
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}; expected 3 (RGB) or 1 (grey)")
        if crop not in CROPS:
            raise ValueError(f"crop is {crop!r}; expected {' or '.join(CROPS)}")
        if len(background) != 3 or not all(0 <= value <= 255 for value in background):
            raise ValueError(f"background is {background}; expected red, green and blue from 0 to 255")
        Image.init()  # not safe to leave to the threads
        self.formats = [name for name in _FORMATS if name in Image.OPEN]
        self.size, self.channels, self.background = size, channels, background
        self.squared = CROPS[crop]
        self._room = _Room(_MEMORY)

    def __call__(self, source: Path | bytes | np.ndarray) -> Decoded | str:
        """Decode a file or its content; pixels (C, H, W) are returned as they are.

        Returns:
            The image, or the reason why it cannot be used.
        """
        if isinstance(source, np.ndarray):
            return Decoded(source, source.shape[2], source.shape[1])
        try:
            with self._open(source) as opened, self._turn(opened):
                image = _rgb(_upright(opened), self.background)
                square = self.squared(image, self.size)
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
            return _reason(error)
        pixels = np.asarray(square if self.channels == 3 else square.convert("L"))  # (H, W, 3) or (H, W)
        pixels = pixels.reshape(self.size, self.size, self.channels).transpose(2, 0, 1)  # (C, H, W)
        return Decoded(pixels, *image.size)

    def _open(self, source: Path | bytes) -> Image.Image:
        if not (source.stat().st_size if isinstance(source, Path) else len(source)):
            raise _Refused("empty (0 bytes)")
        length = source.stat().st_size if isinstance(source, Path) else len(source)
        image = Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=self.formats)
        try:
            _check_header(image, length)
        except _Refused:
            image.close()
            raise
        return image

    def _turn(self, image: Image.Image) -> AbstractContextManager[Any]:
        """Wait until the image fits in memory beside those that other threads decode."""
        twice = image.format in _TWICE or image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        return self._room.take(math.prod(image.size) * _BYTES * (2 if twice else 1))

    def error(self, source: Path | bytes) -> str:
        """Return why a file, or its content, has no header of an image, or "" if it has; no pixels are decoded."""
        try:
            with warnings.catch_warnings(), self._open(source):
                warnings.simplefilter("ignore")
                return ""
        except Exception as error:
            return _reason(error)


class _Room:
    """Memory that threads share."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Wait for this much, or for all of it if there is less."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


def decoders(workers: int | None) -> AbstractContextManager[ThreadPoolExecutor]:
    """Return threads to decode in, by default one per core and at most 8; an exception in the block ends their work.

    Raises:
        ValueError: `workers` is below 1; raised at once, not when the block is entered.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more")
    return _threads(workers)


@contextmanager
def _threads(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata; what matters here is whether it decodes
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def escaped(name: Path | str) -> str:
    r"""Return a name whose unprintable characters are escaped as in Python's string literals: \n, \\, \x85, \udce9."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in str(name))


def _lanczos(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def _adm(image: Image.Image, size: int) -> Image.Image:
    """Crop and resize as guided-diffusion (Dhariwal and Nichol 2021) prepares ImageNet, to the same pixels."""
    while min(image.size) >= 2 * size:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):  # the whole is resized, however long it is
        raise _Refused(f"{image.size[0]} x {image.size[1]} would become {width} x {height} pixels before it is cropped")
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


CROPS: dict[str, Callable[[Image.Image, int], Image.Image]] = {"lanczos": _lanczos, "adm": _adm}


def _check_header(image: Image.Image, length: int) -> None:
    """Raise if a file of `length` bytes says that it holds an image of impossible size; no pixel has been decoded."""
    width, height = image.size
    if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise _Refused(f"more than {Image.MAX_IMAGE_PIXELS} pixels, the limit against decompression bombs")
    if width * height <= _SLOW:
        return
    most = _MOST_COMPRESSED if width * height > _LARGE else _BLANK.get(image.format or "", _OTHER_BLANK)
    if width * height * _bits(image) > 8 * most * length:
        what = "no image" if width * height > _LARGE else "no image with anything in it"
        raise _Refused(
            f"{width} x {height} pixels in {length} bytes: {what} is compressed to less than 1/{most}, but a "
            "decompression bomb is"
        )


def _bits(image: Image.Image) -> int:
    """Return how many bits a pixel has at least."""
    tiles = getattr(image, "tile", ())  # each a decoder, its box, its offset, and such as "P;4" or "RGB;16B" of a PNG
    stored = str(tiles[0][3]) if tiles else ""
    if image.mode == "P":
        return {"P;1": 1, "P;2": 2, "P;4": 4}.get(stored, 8)
    each = 16 if image.mode.startswith("RGB") and ";16" in stored else 8
    return {"1": 1, "I": 16, "I;16": 16, "I;16B": 16}.get(image.mode, each * len(image.getbands()))


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # in some formats the EXIF data come after the pixels
    # Damaged EXIF data, which raise nearly anything, do not cost the image. In place, so that an image stays rotated
    # if only its other EXIF data cannot be written back.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Convert an image of any mode to RGB in 8 bits without transparency."""
    if image.mode == "F":
        raise _Refused("floating-point pixels, whose range is not known; expected 8 or 16 bits")
    if image.mode.startswith("I"):  # I;16 in three byte orders; I, 32 bits, is what some 16-bit files come as
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = _opaque(image, background)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Lay an image on the background, in strips, for that takes three copies."""
    width, height = image.size
    opaque = Image.new("RGB", image.size)
    rows = max(1, _LARGE // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))).convert("RGBA")
        opaque.paste(Image.alpha_composite(Image.new("RGBA", strip.size, (*background, 255)), strip), (0, top))
    return opaque


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)  # (H, W)
    if values.min() < 0 or values.max() > 65535:
        raise _Refused(f"grey values from {values.min()} to {values.max()}; expected 8 or 16 bits, from 0 to 65535")
    eight = np.empty(values.shape, np.uint8)  # (H, W)
    for row, wide in enumerate(values):  # one at a time, for 32 bits of all would take much memory
        eight[row] = (wide.astype(np.int32) + 128) // 257  # (W,); 65535 / 255 = 257, rounded
    grey = Image.fromarray(eight)
    key = image.info.get("transparency")
    if key is None:
        return grey
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a format that can be read"
    if isinstance(error, FileNotFoundError):
        return "vanished while the folder was read"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, (Image.DecompressionBombWarning, Image.DecompressionBombError)):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels, the limit against decompression bombs"
    text = escaped(" ".join(str(error).split())) or type(error).__name__
    return text if isinstance(error, _Refused) else f"damaged: {text}"
