"""The two ways to the square; what files may hold is tested with folders."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fpdm.data.decode import Decoder


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
