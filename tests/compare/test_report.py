"""The report as a whole: read back from its HTML and held against the comparison that it was made from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.compare.report import write_report
from fpdm.drawing.plots import Plot
from fpdm.drawing.sheets import Row, Sheet
from tests.axe import violations_in_all_looks
from tests.browser import served, visit
from tests.compare.made import comparison, images, sheets
from tests.compare.reading import read
from tests.compare.reports import report, section, titles

MOST = 2e6  # bytes of a page
HOSTILE = "<script>alert(\"x\")</script> & 'y' $z$"


def test_text_from_users_is_text(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (140,), ("ddim",))
    name = {one.model: f"{HOSTILE} {i}" for i, one in enumerate(base.models)}
    made = replace(
        base,
        command=HOSTILE,
        data=HOSTILE,
        features=HOSTILE,
        reference=HOSTILE,
        versions={HOSTILE: HOSTILE},
        settings={HOSTILE: HOSTILE},
        models=tuple(replace(m, model=name[m.model], run=HOSTILE, recipe={HOSTILE: m.run}) for m in base.models),
        rows=tuple(replace(row, model=name[row.model], run=HOSTILE, grid=HOSTILE) for row in base.rows),
    )
    shown = [replace(one, title=HOSTILE) for one in sheets(made)]
    page = report(made, tmp_path, shown)
    assert not page.all("script")
    assert page.all("h1")[0].text == f"2 models compared on {HOSTILE}"
    assert page.all("title")[0].text == page.all("h1")[0].text
    assert section(page, "Samples").all("h3")[0].text == HOSTILE
    assert any(pre.text == HOSTILE for pre in page.all("pre"))
    assert {f"{HOSTILE} 0", f"{HOSTILE} 1"} <= {th.text for th in page.all("th")}
    assert {path.name for path in tmp_path.iterdir()} >= {"report.html", "samples.png", "distance.png"}


def test_pictures_stand_in_the_folder_too_and_their_names_differ(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(3, (140, 280), ("ddim", "second-order"), sweep=True)
    shown = [*sheets(made), Sheet("280 block passes: nearest training images", sheets(made)[0].rows)]
    report(made, tmp_path / "new" / "folder", shown)
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "report.html",
        "answer.png",
        "distance.png",
        "kernel-distance.png",
        "iterations.png",
        "samples-140-block-passes.png",
        "samples-280-block-passes.png",
        "samples-280-block-passes-2.png",
        "models.png",
        "residuals.png",
        "loss.png",
        "validation.png",
    }
    assert len(drawn) == 8


def test_every_section_is_there_and_every_picture_is_described(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(5, (35, 140), ("ddim",))
    page = report(made, tmp_path, sheets(made))
    assert titles(page) == [
        "The answer",
        "Quality under a budget",
        "Samples",
        "All results",
        "Models",
        "Convergence",
        "Training",
        "Settings",
        "How to read and repeat this",
    ]
    assert [link.text for link in page.all("nav")[0].all("a")] == titles(page)
    assert all(len(image.attributes["alt"]) > 10 for image in page.all("img"))
    assert made.command in section(page, "How to read and repeat this").text


def test_sections_without_anything_to_show_are_left_out(tmp_path: Path, drawn: list[Plot]) -> None:
    made = replace(comparison(1, (140,), ("ddim",), trained=False), command="", versions={}, settings={})
    page = report(made, tmp_path)
    assert titles(page) == [
        "The answer",
        "Quality under a budget",
        "All results",
        "Models",
        "Settings",
        "How to read and repeat this",
    ]
    (lead,) = section(page, "The answer").all("p", "lead")
    row = made.rows[0]
    assert re.fullmatch(
        rf"At 140 block passes {row.model} \(.*\) has a Fréchet distance of [\d.]+, [\d.]+ times that of .*\.",
        lead.text,
    )
    assert "≈" not in page.text
    assert len(drawn) == 3


def test_no_path_of_this_machine_is_a_title(tmp_path: Path, drawn: list[Plot]) -> None:
    made = replace(comparison(2, (140,), ("ddim",)), data="/home/somebody/photos")
    page = report(made, tmp_path)
    assert [page.all(name)[0].text for name in ("title", "h1")] == ["2 models compared on photos"] * 2


def test_a_model_has_one_style_in_all_figures(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(5, (140, 280), ("ddim", "ddpm"), sweep=True)
    report(made, tmp_path)
    names = tuple(one.model for one in made.models)
    assert {tuple(plot.names) for plot in drawn if hasattr(plot, "names")} == {names}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 64)])
def test_many_sheets_are_folded(channels: int, size: int, tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(2, (35, 70, 140, 280), ("ddim",), trained=False)
    page = report(made, tmp_path, sheets(made, channels=channels, size=size, count=6))
    samples = section(page, "Samples")
    assert len(samples.all("figure")) == 4
    assert [fold.all("summary")[0].text for fold in samples.all("details")] == [one.title for one in sheets(made)]
    assert "real\n(test images)" in [span.text for span in samples.all("span")]


def test_the_page_is_no_heavier_for_large_images(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(1, (140,), ("ddim",), trained=False)
    strips = Row("a", images(40, 3, 128, seed=0))
    path = write_report(made, [Sheet("many", [strips] * 20)], tmp_path)
    assert path.stat().st_size < MOST


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report that is as large as they come."""
    folder = tmp_path_factory.mktemp("whole")
    made = comparison(13, (28, 56, 140, 280, 560), ("ddim", "ddpm", "second-order", "unipc"), sweep=True)
    write_report(made, sheets(made), folder)
    return folder


@pytest.mark.slow
def test_a_whole_report_is_drawn_and_small(whole: Path) -> None:
    path = whole / "report.html"
    assert len(read(path.read_text(encoding="utf-8")).all("img", "narrow")) == 2 * 8
    assert path.stat().st_size < MOST


@pytest.mark.slow
def test_a_report_is_for_all_readers(whole: Path) -> None:
    with served(whole) as address, visit(f"{address}report.html") as found:
        assert violations_in_all_looks(found.page) == []


def test_a_small_report_is_drawn(tmp_path: Path) -> None:
    made = comparison(1, (140,), ("ddim",), trained=False)
    page = report(made, tmp_path, sheets(made, size=8, count=3))
    assert len(page.all("img")) == 3 * 4 + 2
    assert all(int(image.attributes["width"]) > 100 for image in page.all("img"))
