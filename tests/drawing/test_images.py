from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.drawing.images import Png, enlarged, images_from_png, images_to_png, resized, save_png, strip, tile
from tests.compare.made import images


def pixels(png: Png) -> np.ndarray:
    with Image.open(io.BytesIO(png.data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_at_its_own_size_holds_every_pixel(channels: int) -> None:
    made = images(5, channels, 28, seed=1)  # (5, C, 28, 28)
    drawn = pixels(strip(made, 28, shown=56, gap=2))  # (28, 5 * 28 + 4 * 2, C + 1)
    assert drawn.shape == (28, 148, channels + 1)
    for i in range(5):
        inner = drawn[:, 30 * i : 30 * i + 28]  # (28, 28, C + 1)
        assert (inner[..., -1] == 255).all()
        np.testing.assert_array_equal(inner[..., :-1], made[i].permute(1, 2, 0).numpy())
        assert (drawn[:, 30 * i + 28 : 30 * i + 30, -1] == 0).all()


@pytest.mark.parametrize("size", [8, 28, 256])
def test_a_strip_has_the_size_that_is_asked_and_keeps_the_picture(size: int) -> None:
    made = images(3, 1, size, seed=2)
    drawn = pixels(strip(made, 64, shown=72, gap=0))
    assert drawn.shape == (64, 192, 2)
    mean = made.float().mean((1, 2, 3)).numpy()  # (3,)
    np.testing.assert_allclose(drawn[..., 0].reshape(64, 3, 64).mean((0, 2)), mean, atol=2)


def test_fine_patterns_become_grey_when_they_shrink() -> None:
    board = (torch.arange(256)[:, None] + torch.arange(256)[None, :]) % 2 * 255  # (256, 256)
    drawn = pixels(strip(board.to(torch.uint8)[None, None], 72, shown=72))[..., 0]  # (72, 72)
    assert abs(drawn.astype(int) - 127).max() < 20


def test_a_strip_says_how_large_it_is_shown() -> None:
    drawn = strip(images(2, 1, 8, seed=3), 16, shown=32, gap=4)
    assert (drawn.width, drawn.height) == (72, 32)


def test_images_that_are_not_square_keep_their_shape() -> None:
    assert pixels(strip(torch.zeros(2, 3, 20, 40, dtype=torch.uint8), 10, shown=10, gap=0)).shape == (10, 40, 4)


def test_tiles_lie_in_rows_with_gaps_between() -> None:
    made = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)  # (3, 1, 2, 2)
    drawn = tile(made, 2, gap=1)[..., 0]  # (5, 5)
    expected = [[0, 0, 255, 1, 1], [0, 0, 255, 1, 1], [255] * 5, [2, 2, 255, 255, 255], [2, 2, 255, 255, 255]]
    assert drawn.tolist() == expected


def test_a_plot_is_exact_in_a_page_and_a_photograph_nearly_so_and_smaller() -> None:
    plot = Image.fromarray(pixels(strip(images(3, 3, 40, seed=7), 40, shown=40))[..., :3])
    exact = Png.of(plot.quantize(16), 40)
    with Image.open(io.BytesIO(exact.webp())) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(plot.quantize(16).convert("RGB")))
    photographs = strip(images(12, 3, 64, seed=8), 64, shown=64)
    with Image.open(io.BytesIO(photographs.webp())) as image:
        difference = np.asarray(image.convert("RGBA")).astype(int) - pixels(photographs)
    assert np.abs(difference[pixels(photographs)[..., 3] == 255]).mean() < 4
    assert len(photographs.webp()) < len(photographs.data) / 2


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 channels; expected 1"):
        tile(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), 1, gap=0)


def test_a_saved_picture_is_whole_and_alone(tmp_path: Path) -> None:
    save_png(np.arange(6, dtype=np.uint8).reshape(2, 3), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_one_png_come_back_to_the_bit_and_in_order(channels: int) -> None:
    made = images(6, channels, 5, seed=4)  # (6, C, 5, 5)
    assert torch.equal(images_from_png(images_to_png(made, 3), columns=3, rows=2), made)
    with Image.open(io.BytesIO(images_to_png(made, 3))) as image:
        assert (image.size, image.mode) == ((15, 10), "L" if channels == 1 else "RGB")
        third = np.asarray(image.crop((10, 0, 15, 5))).reshape(5, 5, channels)  # (5, 5, C)
    np.testing.assert_array_equal(third, made[2].permute(1, 2, 0).numpy())


def test_a_png_of_another_size_or_damaged_is_refused() -> None:
    data = images_to_png(images(6, 1, 5, seed=4), 3)
    with pytest.raises(ValueError, match="it is 15 x 10; expected 4 x 2 images of equal size"):
        images_from_png(data, columns=4, rows=2)
    for columns, rows in ((0, 2), (3, 0), (-3, 2)):
        with pytest.raises(ValueError, match=f"expected {columns} x {rows} images of equal size"):
            images_from_png(data, columns, rows)
    for damaged in (b"", b"not a PNG", data[: len(data) // 2], data[:20] + b"?" + data[21:]):
        with pytest.raises(ValueError):
            images_from_png(damaged, columns=3, rows=2)


@pytest.mark.parametrize(("side", "expected"), [(8, 64), (28, 84), (63, 126), (64, 64), (100, 100)])
def test_small_images_are_enlarged_by_whole_factors(side: int, expected: int) -> None:
    assert enlarged(images(2, 1, side, seed=5)).shape == (2, 1, expected, expected)


def test_enlarging_does_not_wrap_around() -> None:
    edge = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255  # bicubic interpolation overshoots on both sides
    large = enlarged(edge)[0, 0]  # (64, 64)
    assert (large[:, :24] < 64).all()
    assert (large[:, 40:] > 191).all()


def test_resizing_neither_wraps_around_nor_changes_what_has_the_size() -> None:
    made = images(2, 3, 10, seed=6)
    assert torch.equal(resized(made, 10), made)
    edge = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255  # bicubic interpolation overshoots on both sides
    large = resized(edge, 64)[0, 0]  # (64, 64)
    assert (large[:, :24] < 64).all()
    assert (large[:, 40:] > 191).all()
