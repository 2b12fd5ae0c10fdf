"""The two ways to the square; what files may hold is tested with folders."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from fpdm.data import decode
from fpdm.data.decode import Decoder, decoders


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


@pytest.mark.parametrize(("width", "height", "size"), [(70, 45, 10), (33, 90, 16), (12, 20, 16), (64, 64, 16)])
def test_adm_crops_are_those_of_its_steps(width: int, height: int, size: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    steps, shorter = 0, min(width, height)
    while shorter >= 2 * size:
        steps, shorter = steps + 1, shorter // 2
    wanted = image
    for _ in range(steps):
        wanted = wanted.resize((wanted.width // 2, wanted.height // 2), resample=Image.Resampling.BOX)
    factor = size / min(wanted.size)
    wanted = wanted.resize((round(wanted.width * factor), round(wanted.height * factor)), Image.Resampling.BICUBIC)
    array = np.array(wanted)  # (H', W', 3)
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    found = Decoder(size, crop="adm")(png(image))
    assert not isinstance(found, str)
    assert np.array_equal(found.pixels.transpose(1, 2, 0), array[top : top + size, left : left + size])
    assert (found.width, found.height) == (width, height)
    other = Decoder(size)(png(image))
    assert not isinstance(other, str)
    assert not np.array_equal(other.pixels, found.pixels)


def test_adm_does_not_blow_up_a_long_thin_image() -> None:
    thin = png(Image.new("RGB", (1, 60_000)))
    assert "before it is cropped" in str(Decoder(256, crop="adm")(thin))
    assert not isinstance(Decoder(256)(thin), str)


def test_unknown_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="lanczos or adm"):
        Decoder(8, crop="middle")


def bomb(side: int, depth: int, kind: int, bits: int) -> bytes:
    """A PNG of zeros, as small as can be."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(1 + -(-side * bits // 8))) for _ in range(side)) + squeeze.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(6))] * (kind == 3) + [(b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


@pytest.mark.parametrize(
    ("depth", "kind", "bits"),
    [(1, 0, 1), (16, 0, 16), (8, 3, 8), (1, 3, 1), (8, 6, 32), (16, 6, 64), (8, 0, 8), (8, 2, 24)],
    ids=["1 bit", "16 bits", "palette", "palette of two", "RGBA", "RGBA of 16 bits", "grey", "RGB"],
)
def test_bombs_are_refused_by_their_headers(depth: int, kind: int, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Image.Image) -> None:
        raise AssertionError("the pixels of a bomb are decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    for side in (4200, 3200):  # above and below 2^24 pixels
        content = bomb(side, depth, kind, bits)
        assert "a decompression bomb is" in str(Decoder(8)(content))
        assert "a decompression bomb is" in Decoder(8).error(content)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_bombs_of_formats_without_a_highest_ratio_are_refused(kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3200, 3200), "white").save(stream, format=kind)
    assert "is compressed to less than 1/10000" in str(Decoder(8)(stream.getvalue()))


def test_large_images_that_may_be_are_decoded() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4200, 4200), "white").save(stream, format="JPEG")
    found = Decoder(8)(stream.getvalue())
    assert not isinstance(found, str)
    assert (found.pixels == 255).all()
    assert not isinstance(Decoder(8)(bomb(400, 8, 6, 32)), str)  # small, and so harmless
    drawing = Image.new("RGB", (3200, 3200), "white")
    ImageDraw.Draw(drawing).ellipse((400, 400, 2800, 2800), outline="black", width=40)
    for kind in ("PNG", "WEBP", "GIF"):
        stream = io.BytesIO()
        drawing.save(stream, format=kind, lossless=True)
        assert not isinstance(Decoder(8)(stream.getvalue()), str)


def test_images_wait_until_they_fit_in_memory_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_MEMORY", 2 * 10 * 50 * 50)  # two of RGB, one with transparency
    at_once, most, lock, whole = [0], [0], threading.Lock(), decode._rgb

    def rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.01)
        with lock:
            at_once[0] -= 1
        return whole(image, background)

    monkeypatch.setattr(decode, "_rgb", rgb)
    for mode, side, expected in (("RGB", 50, 2), ("RGBA", 50, 1), ("RGB", 400, 1)):
        stream, most[0], decoder = io.BytesIO(), 0, Decoder(8)
        Image.new(mode, (side, side)).save(stream, format="PNG")
        with decoders(8) as pool:
            found = list(pool.map(decoder, [stream.getvalue()] * 12))
        assert not any(isinstance(one, str) for one in found)
        assert most[0] == expected


def test_transparency_is_the_same_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 20, 4), dtype=np.uint8)  # (H, W, 4)
    palette = Image.fromarray(pixels[..., :3]).quantize(5)
    palette.info["transparency"] = 2
    images = [png(Image.fromarray(pixels)), png(palette)]
    whole = [Decoder(20)(image) for image in images]
    monkeypatch.setattr(decode, "_LARGE", 90)  # pixels: strips of four rows
    for image, one in zip(images, whole, strict=True):
        found = Decoder(20)(image)
        assert not isinstance(found, str)
        assert not isinstance(one, str)
        assert np.array_equal(found.pixels, one.pixels)
