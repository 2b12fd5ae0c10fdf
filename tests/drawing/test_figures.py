"""Figures: what is on the page, and the files beside it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from fpdm.drawing import figures as module
from fpdm.drawing.figures import Drawing, FigureWriter
from fpdm.drawing.page import Block, Figure, Fold, Gallery
from fpdm.drawing.plots import Rendered
from fpdm.drawing.sheets import Row, Sheet
from tests.compare.made import images


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sheet(title: str, count: int = 3, side: int = 8, caption: str = "FPDM") -> Sheet:
    return Sheet(title, [Row(caption, images(count, 1, side, seed=0)), Row("DiT", images(count, 1, side, seed=1))])


def gallery(block: Block) -> Gallery:
    """The gallery in a fold."""
    assert isinstance(block, Fold)
    (inner,) = block.blocks
    assert isinstance(inner, Gallery)
    return inner


def test_plots_are_drawn_in_order_and_the_light_form_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [module.strip(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), width, shown=width) for width in range(8, 12)]
    monkeypatch.setattr(module, "render", lambda plot: Rendered(*pictures))
    names = ("Budget", "budget", "Loss: at first")

    def figure(data: tuple[str, ...]) -> list[Drawing]:
        return [Drawing(name, None, f"alt of {name}", f"caption of {name}") for name in data]  # type: ignore[arg-type]

    blocks = FigureWriter(tmp_path).draw(names, [figure, lambda data: figure(data[:1])])
    assert [block.caption for block in blocks if isinstance(block, Figure)] == [
        f"caption of {name}" for name in (*names, "Budget")
    ]
    # No figure replaces another's file.
    assert files(tmp_path) == ["budget-2.png", "budget-3.png", "budget.png", "loss-at-first.png"]
    assert (tmp_path / "budget.png").read_bytes() == Rendered(*pictures).light.data


def test_sheets_are_folded_and_each_is_kept(tmp_path: Path) -> None:
    blocks = FigureWriter(tmp_path).sheets([sheet(f"{budget} passes: ddim") for budget in (35, 70, 140, 280)])
    assert [type(block) for block in blocks] == [Fold] * 4
    assert files(tmp_path) == [f"samples-{budget}-passes.png" for budget in (140, 280, 35, 70)]
    last = blocks[-1]
    assert isinstance(last, Fold)
    assert last.summary == gallery(last).title == "280 passes: ddim"


def test_a_sheet_alone_is_named_samples(tmp_path: Path) -> None:
    (block,) = FigureWriter(tmp_path).sheets([sheet("35 passes", caption="F" * 60 + "\nddim")])
    assert files(tmp_path) == ["samples.png"]
    first, second = gallery(block).strips
    assert [len(line) for line in first.caption.splitlines()] == [48, 4]
    assert second.alt == "3 images: DiT"
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(("side", "count", "expected"), [(8, 3, 64), (100, 3, 100), (256, 3, 128), (64, 400, 43)])
def test_images_on_the_page_have_a_size_that_keeps_it_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, count: int, expected: int
) -> None:
    monkeypatch.setattr(module, "draw_sheet", lambda sheet: module.strip(sheet.rows[0].images[:1], 8, shown=8))
    (block,) = FigureWriter(tmp_path).sheets([sheet("35 passes", count, side)])
    picture = gallery(block).strips[0].picture
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.height == expected
    assert picture.height == max(expected, 72)
