"""Pixels and image sets against plain arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpdm.data.images import ImageSet, to_float, to_uint8

LEVELS = torch.arange(256, dtype=torch.uint8)


def image_set(**changes):
    values = {
        "name": "toy",
        "images": torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5),
        "labels": torch.tensor([1, 0]),
        "num_classes": 2,
    }
    return ImageSet(**(values | changes))


def test_every_level_survives_the_way_to_float_and_back():
    x = to_float(LEVELS)
    torch.testing.assert_close(x.double(), torch.linspace(-1, 1, 256, dtype=torch.float64), atol=1e-6, rtol=0)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1.0, 1.0)
    assert torch.equal(to_uint8(x), LEVELS)


@given(st.floats(-3, 3, width=32))
def test_a_pixel_goes_to_the_nearest_level(x):
    levels = np.linspace(-1, 1, 256)
    chosen = int(to_uint8(torch.tensor([x]))[0])
    assert abs(levels[chosen] - x) <= np.abs(levels - x).min() + 1e-6


def test_infinities_are_clamped_and_nan_is_refused():
    assert to_uint8(torch.tensor([float("-inf"), float("inf")])).tolist() == [0, 255]
    with pytest.raises(ValueError, match="1 of 2 pixels are nan"):
        to_uint8(torch.tensor([0.0, float("nan")]))


def test_a_batch_holds_the_images_and_labels_asked_for():
    data = image_set()
    images, labels = data.batch([1, 0, 1])
    assert len(data) == 2
    assert data.shape == (3, 4, 5)
    expected = data.images.numpy()[[1, 0, 1]].astype(np.float64) * 2 / 255 - 1  # (3, C, H, W)
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-6)
    assert images.dtype == torch.float32
    assert labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(2, 3, 4, 5)}, "torch.float32"),
        ({"images": torch.zeros(3, 4, 5, dtype=torch.uint8)}, r"\(3, 4, 5\)"),
        ({"images": torch.zeros(0, 3, 4, 5, dtype=torch.uint8), "labels": torch.zeros(0).long()}, "at least one image"),
        ({"labels": torch.tensor([0])}, r"int64 \(1,\)"),
        ({"labels": torch.tensor([0.0, 1.0])}, "torch.float32"),
        ({"labels": torch.tensor([0, 2])}, "from 0 to 2; expected 0 to 1"),
        ({"labels": torch.tensor([-1, 1])}, "from -1 to 1"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        image_set(**changes)
