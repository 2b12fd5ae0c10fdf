from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.drawing.images import Png
from fpdm.drawing.sheets import Row, Sheet, draw_sheet
from tests.compare.made import images


def pixels(png: Png) -> np.ndarray:
    with Image.open(io.BytesIO(png.data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("channels", "size", "count"), [(1, 8, 12), (3, 64, 3), (1, 28, 1), (3, 256, 12)])
def test_a_sheet_shows_its_images(channels: int, size: int, count: int) -> None:
    white = torch.full((count, channels, size, size), 255, dtype=torch.uint8)
    empty = pixels(draw_sheet(Sheet("$title$", [Row("_a\n$b$", white), Row("c" * 99, white)])))
    shown = pixels(draw_sheet(Sheet("$title$", [Row("_a\n$b$", white * 0), Row("c" * 99, white)])))
    assert empty.shape == shown.shape
    assert shown.shape[1] <= 1600
    changed = (empty != shown).any(-1)  # (h, w)
    rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
    assert rows[-1] < 0.75 * shown.shape[0]  # only the upper of the two rows
    assert columns[0] > 0.1 * shown.shape[1]  # not the caption
    assert changed[rows[0] : rows[-1], columns[0] : columns[-1]].mean() > 0.9


def test_rows_of_a_sheet_are_equally_long() -> None:
    with pytest.raises(AssertionError):
        Sheet("t", [Row("a", images(2, 1, 8, seed=0)), Row("b", images(3, 1, 8, seed=0))])
