"""The report as a whole: read back from its HTML and held against the comparison that it was made from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fpdm.compare.report import write_report
from fpdm.compare.results import Comparison, Result
from fpdm.drawing import figures as album
from fpdm.drawing.images import Png
from fpdm.drawing.plots import Plot, Rendered
from fpdm.drawing.sheets import Row, Sheet
from tests.compare.made import comparison, images, sheets
from tests.compare.reading import Element, number, read

HOSTILE = "<script>alert(\"x\")</script> & 'y' $z$"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Plot]:
    """The plots in the order in which they are asked for; none is drawn, which takes long."""
    plots: list[Plot] = []
    dot = Png.of(Image.new("RGB", (1, 1)), 1)

    def render(plot: Plot) -> Rendered:
        plots.append(plot)
        return Rendered(dot, dot, dot, dot)

    monkeypatch.setattr(album, "render", render)
    return plots


def report(made: Comparison, folder: Path, shown: list[Sheet] | None = None) -> Element:
    path = write_report(made, shown or [], folder)
    return read(path.read_text(encoding="utf-8"))


def section(page: Element, title: str) -> Element:
    return next(s for s in page.all("section") if s.all("h2")[0].text == title)


def titles(page: Element) -> list[str]:
    return [found.text for found in page.all("h2")]


def cells(table: Element) -> dict[tuple[str, str], dict[str, Element]]:
    """{(group, row): {heading: cell}}; of headings that come twice the later is called "2"."""
    headings: list[str] = []
    for th in table.all("thead")[0].all("th"):
        headings.append(th.text + ("2" if th.text in headings else ""))
    found = {}
    for body in table.all("tbody"):
        group = ""
        for row in body.all("tr"):
            inner = [child for child in row.children if isinstance(child, Element)]
            if len(inner) == 1:
                group = inner[0].text
            else:
                found[group, inner[0].text] = dict(zip(headings, inner, strict=True))
    return found


def value(cell: Element) -> float:
    """The number of a cell, without what is in small print."""
    small = cell.all("small")
    return number(cell.text.removesuffix(small[0].text) if small else cell.text)


def interval(cell: Element) -> list[float]:
    low, high = cell.all("small")[0].text.split(",")[0].split(" to ")
    return [number(low), number(high)]


def test_every_number_of_every_row_is_in_the_tables(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(4, (70, 280), ("ddim", "ddpm"))
    results = section(report(made, tmp_path), "All results")
    tables = results.all("table")
    assert len(tables) == 2
    by_sampler: dict[str, dict[tuple[str, str], dict[str, Element]]]
    by_sampler = dict(zip(["ddim", "ddpm"], map(cells, tables), strict=True))
    assert sum(map(len, by_sampler.values())) == len(made.rows)
    for row in made.rows:
        found = by_sampler[row.sampler][f"{row.budget} block passes", row.model]
        expected: dict[str, tuple[float, float]] = {  # with half a unit of the last place
            "distance": (row.distance, 0.005),
            "its floor": (row.distance_floor, 0.005),
            "kernel distance × 1000": (1e3 * row.kid, 0.005),
            "its floor2": (1e3 * row.kid_floor, 0.005),
            "precision": (row.precision, 0.005),
            "recall": (row.recall, 0.005),
            "novelty": (row.novelty, 0.005),
            "passes spent": (row.passes, 0),
            "MMACs": (row.macs / 1e6, 0.5),
            "ms": (1e3 * row.seconds, 0.05),
        }
        for heading, (wanted, error) in expected.items():
            assert value(found[heading]) == pytest.approx(wanted, abs=error + 1e-9), (row.model, heading)
        assert interval(found["distance"]) == pytest.approx([row.distance_low, row.distance_high], abs=0.005)
        kernel = interval(found["kernel distance × 1000"])
        assert kernel == pytest.approx([1e3 * row.kid_low, 1e3 * row.kid_high], abs=0.005)
        plan = found["iterations × steps, plan"].text
        assert plan.startswith(f"{row.iterations} × {row.steps}")
        for word in (row.grid, row.allocation, "reuse" if row.reuse else "no reuse", f"{row.candidates} tried"):
            assert word in plan or word in results.all("figcaption")[0].text


def test_a_measure_without_a_field_of_its_own_has_a_column(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(3, (140,), ("ddim",))
    rows = tuple(replace(row, measures={"density": 0.5 + i} if i else {}) for i, row in enumerate(base.rows))
    found = cells(section(report(replace(base, rows=rows), tmp_path), "All results").all("table")[0])
    shown = [found["140 block passes", row.model]["density"].text for row in rows]
    assert shown == ["–", "1.50", "2.50"]


def test_the_lowest_is_bold_and_those_that_overlap_are_marked(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(3, (140,), ("ddim",))
    bounds = {0: (1.0, 0.9, 1.1), 1: (1.2, 1.05, 1.3), 2: (2.0, 1.9, 2.1)}
    rows = tuple(
        replace(row, distance=d, distance_low=low, distance_high=high)
        for row, (d, low, high) in zip(base.rows, bounds.values(), strict=True)
    )
    page = report(replace(base, rows=rows), tmp_path)
    for title, heading in (("The answer", "140 passes"), ("All results", "distance")):
        found = [row[heading] for row in cells(section(page, title).all("table")[0]).values()]
        assert [[b.text for b in cell.all("b")] for cell in found] == [["1.00"], [], []]
        assert ["≈" in cell.text for cell in found] == [False, True, False]
    answer = section(page, "The answer").all("p")
    assert answer[0].text == (
        f"At 140 block passes {rows[0].model} has the lowest Fréchet distance, 1.00 (0.90 to 1.10). "
        f"There is no clear difference to {rows[1].model}: the intervals overlap."
    )
    assert "every model was trained once" in answer[1].text


def test_the_answer_takes_the_sampler_that_validation_chose_and_says_which(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (140,), ("ddim", "ddpm"))
    values = {("ddim", 0): (3.0, 3.3), ("ddim", 1): (2.1, 2.0), ("ddpm", 0): (1.0, 1.3), ("ddpm", 1): (2.0, 2.5)}
    names = [one.model for one in base.models]
    rows = tuple(
        replace(row, distance=v, distance_low=0.99 * v, distance_high=1.01 * v, choosing_distance=c)
        for row in base.rows
        for v, c in [values[row.sampler, names.index(row.model)]]
    )
    page = report(replace(base, rows=rows), tmp_path)
    answer = section(page, "The answer")
    assert answer.all("p")[0].text.startswith(f"At 140 block passes {names[0]} has the lowest Fréchet distance, 1.00 (")
    found = cells(answer.all("table")[0])
    assert [row["140 passes"].all("small")[0].text.split(", ")[1] for row in found.values()] == ["ddpm", "ddim"]
    assert [value(row["140 passes"]) for row in found.values()] == [1.0, 2.1]
    assert "chosen on the validation images" in section(page, "How to read and repeat this").text


def test_the_answer_says_each_floor_once(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(3, (140,), ("ddim",))
    rows = tuple(replace(row, distance_floor=f) for row, f in zip(base.rows, (0.0621, 0.05121, 0.05122), strict=True))
    answer = section(report(replace(base, rows=rows), tmp_path), "The answer")
    assert "as many as were generated, have 0.0512 and 0.0621." in answer.all("p")[1].text


def test_a_floor_of_fewer_images_says_of_how_many(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (140,), ("ddim",))
    rows = tuple(replace(row, floor_images=300) for row in base.rows)
    page = report(replace(base, rows=rows), tmp_path)
    words = "real training images, as many as were generated or all 300 available"
    assert words.capitalize() in section(page, "The answer").all("p")[1].text
    assert words in section(page, "Quality under a budget").text
    assert words in section(page, "How to read and repeat this").text


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
        "distance-ddim.png",
        "distance-second-order.png",
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
        rf"At 140 block passes {row.model} has a Fréchet distance of [\d.]+ \([\d.]+ to [\d.]+\)\.", lead.text
    )
    assert "≈" not in page.text
    assert len(drawn) == 2


def test_without_seconds_nothing_is_said_of_them(tmp_path: Path, drawn: list[Plot]) -> None:
    page = report(comparison(2, (140,), ("ddim",), timed=False), tmp_path)
    assert "seconds" not in section(page, "Quality under a budget").text
    headings = [th.text for th in section(page, "All results").all("thead")[0].all("th")]
    assert "MMACs" in headings
    assert not {"s", "ms", "µs"} & set(headings)
    assert len(drawn[0].panels) == 2  # type: ignore[attr-defined]


def test_a_model_that_a_budget_is_too_small_for_has_a_dash(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (20, 140), ("ddim",))
    first, second = (one.model for one in base.models)
    made = replace(base, rows=tuple(row for row in base.rows if (row.model, row.budget) != (first, 20)))
    answer = section(report(made, tmp_path), "The answer")
    assert cells(answer.all("table")[0])["", first]["20 passes"].text == "–"
    assert f"At 20 only {second} was measured" in answer.text


def test_the_models_table_has_what_training_took(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(4, (140,), ("ddim",))
    found = cells(section(report(made, tmp_path), "Models").all("table")[0])
    most = max(one.saved_bytes for one in made.models)
    for one in made.models:
        row = found["", one.model]
        assert value(row["parameters (M)"]) == pytest.approx(one.parameters / 1e6, abs=0.005)
        assert value(row["training steps"]) == one.steps
        assert value(row["images seen"]) == one.images_seen
        assert value(row["training TMACs"]) == pytest.approx(one.macs / 1e12, abs=0.05)
        assert value(row["training min"]) == pytest.approx(one.seconds / 60, abs=0.05)
        assert value(row["saved MB, mean"]) == pytest.approx(one.saved_bytes / 1e6, abs=0.005)
        assert row["saved MB, mean"].all("small")[0].text == f"{100 * one.saved_bytes / most:.0f} %"
        assert value(row["saved MB, most"]) == pytest.approx(one.saved_bytes_max / 1e6, abs=0.005)
        last = [loss for *_, loss in one.losses[-(len(one.losses) // 20) :]]
        assert value(row["final loss"]) == pytest.approx(sum(last) / len(last), abs=0.0005)


def test_settings_that_differ_come_first_and_all_follow(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(3, (140,), ("ddim",))
    settings = section(report(made, tmp_path), "Settings")
    found = {field: row for (_, field), row in cells(settings.all("table")[0]).items()}
    assert "model.width" not in found
    assert [cell.text for cell in found["model.middle_blocks"].values()][1:] == ["26", "2", "1"]
    assert [cell.text for cell in found["run"].values()][1:] == ["runs/dit", "runs/dit-4", "runs/fpdm"]
    texts = [json.loads(pre.text) for pre in settings.all("pre")]
    assert texts == [json.loads(json.dumps(one.recipe)) for one in made.models] + [made.settings]


def test_a_model_has_one_style_in_all_figures(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(5, (140, 280), ("ddim", "ddpm"), sweep=True)
    report(made, tmp_path)
    names = tuple(one.model for one in made.models)
    assert {tuple(plot.names) for plot in drawn if hasattr(plot, "names")} == {names}  # type: ignore[attr-defined]


def test_curves_are_the_rows(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(2, (280, 140), ("ddim",))  # budgets out of order
    report(made, tmp_path)
    axes: list[Callable[[Result], float]] = [lambda r: r.passes, lambda r: r.macs / 1e6, lambda r: 1e3 * r.seconds]
    for panel, x in zip(drawn[0].panels, axes, strict=True):  # type: ignore[attr-defined]
        assert panel.floors == [0.0512]
        for curve in panel.curves:
            mine = sorted((row for row in made.rows if row.model == curve.name), key=lambda row: row.budget)
            assert curve.x == pytest.approx([x(row) for row in mine])
            assert curve.y == [row.distance for row in mine]
            assert (curve.low, curve.high) == ([r.distance_low for r in mine], [r.distance_high for r in mine])


def test_loss_curves_are_smoothed_without_moving_them(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(1, (140,), ("ddim",))
    flat = tuple((step, 1e9 * step, 0.25) for step in range(1, 1001))
    report(replace(base, models=(replace(base.models[0], losses=flat),)), tmp_path)
    (panels,) = [plot.panels for plot in drawn if getattr(plot, "y_label", "") == "training loss"]  # type: ignore[attr-defined]
    steps, macs = (panel.curves[0] for panel in panels)
    assert steps.y == pytest.approx([0.25] * len(steps.x))
    assert len(steps.x) <= 400
    assert macs.x == pytest.approx([step * 1e9 / 1e12 for step in steps.x])


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 64)])
def test_many_sheets_stay_small_and_the_later_ones_are_folded(
    channels: int, size: int, tmp_path: Path, drawn: list[Plot]
) -> None:
    made = comparison(2, (35, 70, 140, 280), ("ddim",), trained=False)
    page = report(made, tmp_path, sheets(made, channels=channels, size=size, count=6))
    samples = section(page, "Samples")
    assert len(samples.all("figure")) == 4
    assert [fold.all("summary")[0].text for fold in samples.all("details")] == [sheets(made)[3].title]
    assert "real\n(test images)" in [span.text for span in samples.all("span")]


def test_the_page_is_no_heavier_for_large_images(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(1, (140,), ("ddim",), trained=False)
    strips = Row("a", images(40, 3, 128, seed=0))
    path = write_report(made, [Sheet("many", [strips] * 20)], tmp_path)
    assert path.stat().st_size < 5e6


@pytest.mark.slow
def test_a_whole_report_is_drawn(tmp_path: Path) -> None:
    made = comparison(12, (35, 140, 560), ("ddim", "ddpm"), sweep=True)
    page = report(made, tmp_path, sheets(made))
    assert len(page.all("img", "narrow")) == 2 * 8
    assert (tmp_path / "report.html").stat().st_size < 6e6


def test_a_small_report_is_drawn(tmp_path: Path) -> None:
    made = comparison(1, (140,), ("ddim",), trained=False)
    page = report(made, tmp_path, sheets(made, size=8, count=3))
    assert len(page.all("img")) == 2 * 4 + 2
    assert all(int(image.attributes["width"]) > 100 for image in page.all("img"))
