"""A look at a folder before anything is decided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fpdm.data.survey import LOOKED_AT, survey


def fill(folder: Path, count: int, size: tuple[int, int] = (12, 9), mode: str = "RGB", **options: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for _ in range(count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)  # (H, W, 3)
        image = Image.fromarray(pixels).convert("L").convert(mode) if mode == "L" else Image.fromarray(pixels)
        if mode == "RGBA":
            image.putalpha(options["alpha"])
        image.save(folder / f"{len([*folder.iterdir()]):04d}.png")
    return folder


def test_sizes_colours_and_numbers(tmp_path: Path) -> None:
    fill(tmp_path, 3, (12, 9))
    fill(tmp_path, 1, (20, 31))
    found = survey(tmp_path)
    assert (found.images, found.looked_at, found.unreadable) == (4, 4, 0)
    assert (found.side.least, found.side.median, found.side.greatest) == (9, 9, 20)
    assert found.mixed
    assert not found.grey
    assert not found.transparent
    assert found.classes == ()
    assert "4 images of 9 to 20 pixels (median 9) along their shorter sides, in colour, no classes" in found.to_text()


def test_the_share_that_a_square_keeps_is_that_of_the_median(tmp_path: Path) -> None:
    fill(tmp_path, 3, (30, 10))
    fill(tmp_path, 1, (9, 9))
    fill(tmp_path, 1, (10, 20))
    assert survey(tmp_path).kept == pytest.approx(1 / 3)


def test_squares_of_one_size_are_not_mixed(tmp_path: Path) -> None:
    assert not survey(fill(tmp_path, 3, (8, 8))).mixed
    assert survey(fill(tmp_path / "other", 3, (8, 9))).mixed


def test_grey_is_grey_in_any_mode_until_one_image_has_colours(tmp_path: Path) -> None:
    fill(tmp_path, 3, mode="L")
    for path in [*tmp_path.iterdir()]:  # grey values in files of three channels
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), quality=60)
    assert survey(tmp_path).grey
    fill(tmp_path, 1)
    assert not survey(tmp_path).grey


@pytest.mark.parametrize(("alpha", "transparent"), [(255, 0), (254, 2), (0, 2)])
def test_only_pixels_that_are_not_opaque_count_as_transparent(tmp_path: Path, alpha: int, transparent: int) -> None:
    fill(tmp_path, 2, mode="RGBA", alpha=alpha)
    assert survey(tmp_path).transparent == transparent


@pytest.mark.parametrize(
    ("sizes", "learnable", "says"),
    [((5, 3), True, ""), ((5, 2), False, "1 class with fewer than 3 images: b"), ((5,), False, "")],
)
def test_classes_are_learnable_if_each_has_an_image_for_each_split(
    tmp_path: Path, sizes: tuple[int, ...], learnable: bool, says: str
) -> None:
    for name, count in zip("abc", sizes, strict=False):
        fill(tmp_path / name, count)
    found = survey(tmp_path)
    assert found.classes == sizes
    assert found.learnable == learnable
    assert found.small_classes == says


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert (survey(tmp_path).looked_at, survey(tmp_path).unreadable) == (2, 1)
    for path in tmp_path.glob("0*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"no image in .* can be read \(1 tried\); the last: bad.png: not an image"):
        survey(tmp_path)


def test_of_many_images_some_are_looked_at_throughout_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, LOOKED_AT + 1, (4, 4))
    fill(tmp_path, 1, (7, 7))
    found = survey(tmp_path)
    assert found.images == LOOKED_AT + 2
    assert found.looked_at == LOOKED_AT
    assert found.side.greatest == 7  # the last one
