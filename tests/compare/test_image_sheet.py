"""The image sheet keeps every pixel, and the report's sheets are made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fpdm.compare.image_sheet import read_image_sheet, report_sheets, write_image_sheet
from fpdm.compare.results import ImageRow
from tests.compare.made import comparison, images

ROWS = [
    ImageRow("samples", "dit-fashion", 35, "ddim"),
    ImageRow("samples", "dit-4-fashion", 35, "ddim"),
    ImageRow("samples", "dit-fashion", 140, "ddim"),
    ImageRow("samples", "dit-4-fashion", 140, "ddim"),
    ImageRow("real"),
    ImageRow("nearest", "dit-fashion", 140, "ddim"),
    ImageRow("nearest", "dit-4-fashion", 140, "ddim"),
]


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 8)])
def test_every_pixel_comes_back_from_one_file(channels: int, size: int, tmp_path: Path) -> None:
    made = {row: images(5, channels, size, seed=i) for i, row in enumerate(ROWS)}
    sheet = write_image_sheet(tmp_path, made)
    assert [path.name for path in tmp_path.iterdir()] == ["images.png"]
    found = read_image_sheet(tmp_path, sheet)
    assert [*found] == ROWS
    assert all(torch.equal(found[row], made[row]) for row in ROWS)


def test_a_missing_damaged_or_foreign_sheet_is_refused(tmp_path: Path) -> None:
    sheet = write_image_sheet(tmp_path, {row: images(5, 1, 8, seed=0) for row in ROWS})
    path = tmp_path / "images.png"
    good = path.read_bytes()
    for bad in (good[:-40], good[:30], b"", b"no picture", good.replace(b"IDAT", b"IDAX")):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"images.png is damaged: .*; put the original back"):
            read_image_sheet(tmp_path, sheet)
    write_image_sheet(tmp_path, {row: images(4, 1, 8, seed=0) for row in ROWS})
    with pytest.raises(ValueError, match="it is 32 x 56; expected 5 x 7 images of equal size"):
        read_image_sheet(tmp_path, sheet)
    path.unlink()
    with pytest.raises(ValueError, match=r"there is no images\.png in"):
        read_image_sheet(tmp_path, sheet)


def test_a_sheet_for_each_budget_and_one_of_nearest_images() -> None:
    made = comparison(2, (140, 35), ("ddim", "ddpm"))
    kept = {row: images(3, 1, 8, seed=i) for i, row in enumerate(ROWS)}
    kept[ImageRow("samples", "dit-fashion", 35, "ddpm")] = images(3, 1, 8, seed=99)  # of another sampler
    small, large, nearest = report_sheets(made, kept)
    assert small.title.startswith("35 block passes, as steps x iterations:")
    assert [row.caption.splitlines()[0] for row in small.rows] == ["dit-fashion", "dit-4-fashion", "real"]
    assert [row.caption.splitlines()[0] for row in nearest.rows] == [
        "dit-fashion",
        "nearest",
        "dit-4-fashion",
        "nearest",
    ]
    assert "140 block passes" in nearest.title
    for sheet, places in ((small, (0, 1, 4)), (large, (2, 3, 4)), (nearest, (2, 5, 3, 6))):
        assert all(torch.equal(r.images, kept[ROWS[i]]) for r, i in zip(sheet.rows, places, strict=True))


def test_without_images_there_are_no_sheets() -> None:
    assert report_sheets(comparison(2, (140,), ("ddim",)), {}) == []
