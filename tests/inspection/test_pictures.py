"""Sizes of the pictures, the order of their rows, and the marks of the plan."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from fpdm.drawing.plots import Look
from fpdm.drawing.theme import LIGHT
from fpdm.inspection import pictures
from fpdm.inspection.measure import Sampling, Solves


def sampling(steps: int = 4, images: int = 3) -> Sampling:
    """Previews of one grey each, the noisiest the darkest."""
    shades = [torch.full((images, 1, 8, 8), 40 * place, dtype=torch.uint8) for place in range(steps)]
    timesteps = tuple(float(1000 - 100 * place) for place in range(steps))
    return Sampling(timesteps, torch.full((steps, images), 5.0), shades, shades[-1], 28.0)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_the_noisiest_timestep_is_on_top_and_the_film_begins_with_it() -> None:
    with opened(pictures.previews("tiny", sampling(), ["a", "b", "c"], 4)) as image:
        column = image.convert("L").crop((image.width - 200, 0, image.width - 100, image.height))
        shades = [column.getpixel((50, y)) for y in range(image.height)]
    order = [shade for shade in (0, 40, 80, 120) if shade in shades]
    assert order == [0, 40, 80, 120]
    assert [shades.index(shade) for shade in order] == sorted(shades.index(shade) for shade in order)
    with opened(pictures.film(sampling())) as film:
        assert film.n_frames == 5  # type: ignore[attr-defined]  # four steps and the samples
        first = film.convert("L").getpixel((30, 60))
        film.seek(4)
        assert first == 0
        assert film.convert("L").getpixel((30, 60)) == 120


def test_the_map_has_timesteps_downwards_and_a_line_where_the_plan_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(pictures, "_plot", lambda plot: drawn.append(plot.draw(Look(LIGHT, True))) or b"")
    values = [[10.0**-column / (row + 1) for column in range(6)] for row in range(3)]
    found = Solves((999.0, 500.0, 10.0), (1, 2, 3, 4, 5, 6), 0, [], values, (5.0, 3.0, 1.0))
    pictures.residuals("tiny", found, "cold starts")
    axes = drawn[0].axes[0]
    low, high = axes.get_ylim()
    assert low > high  # row 0 is on top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["999", "500", "10"]
    (line,) = axes.get_lines()
    assert sorted({*line.get_xdata()}) == [0.5, 2.5, 4.5]  # after 1, 3 and 5 columns
    assert axes.images[0].norm.vmin == pytest.approx(1e-5 / 3)
    assert type(axes.images[0].norm).__name__ == "LogNorm"


def test_an_allocation_is_drawn_beside_the_plan_with_whole_numbers_on_its_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []
    monkeypatch.setattr(pictures, "_plot", lambda plot: drawn.append(plot.draw(Look(LIGHT, True))) or b"")
    one = sampling()
    other = Sampling(one.timesteps, one.iterations + torch.tensor([0.0, 1.0, 2.0]), one.previews, one.images, 30.0)
    pictures.allocation(one, other, ["a", "b", "c"])
    left, right, bar = drawn[0].axes
    assert [axes.get_title() for axes in (left, right)] == ["as planned: 28 passes", "adaptive: 30 passes"]
    assert [tick for tick in bar.get_yticks() if 5 <= tick <= 7] == [5, 6, 7]
    low, high = right.get_ylim()
    assert low > high
