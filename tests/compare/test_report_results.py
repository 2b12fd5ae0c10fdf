"""The sections about the results: every number of the comparison is in them, and nothing that it does not say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fpdm.compare.results import Result
from fpdm.drawing.plots import Look, Plot
from fpdm.drawing.theme import LIGHT
from tests.compare.made import comparison, sheets
from tests.compare.reading import Element
from tests.compare.reports import cells, interval, report, section, value


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
        plan = found["steps × iterations, plan"].text
        assert plan.startswith(f"{row.steps} × {row.iterations}")
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
    answer = section(page, "The answer")
    assert answer.all("p")[0].text.startswith(f"At 140 block passes {rows[2].model} (")
    assert answer.all("p")[0].text.count(". ") == 0  # one sentence
    assert not any(f"{low:.2f}" in answer.all("p")[0].text for _, low, _ in bounds.values())  # intervals: in the table
    assert "every model was trained once" in answer.text


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
    assert answer.all("p")[0].text.startswith(f"At 140 block passes {names[0]} (")
    assert "Fréchet distance 1.00 against 2.10" in answer.all("p")[0].text
    found = cells(answer.all("table")[0])
    assert [row["140 passes"].all("small")[0].text.split(", ")[1] for row in found.values()] == ["ddpm", "ddim"]
    assert [value(row["140 passes"]) for row in found.values()] == [1.0, 2.1]
    assert "chosen on the validation images" in section(page, "How to read and repeat this").text


def test_the_answer_says_each_floor_once(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(3, (140,), ("ddim",))
    rows = tuple(replace(row, distance_floor=f) for row, f in zip(base.rows, (0.0621, 0.05121, 0.05122), strict=True))
    answer = section(report(replace(base, rows=rows), tmp_path), "The answer")
    assert "as many as were generated, have 0.0512 and 0.0621." in answer.text


def test_a_floor_of_fewer_images_says_of_how_many(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (140,), ("ddim",))
    rows = tuple(replace(row, floor_images=300) for row in base.rows)
    page = report(replace(base, rows=rows), tmp_path)
    words = "real training images, as many as were generated or all 300 available"
    assert words.capitalize() in section(page, "The answer").text
    assert words in section(page, "Quality under a budget").text
    assert words in section(page, "How to read and repeat this").text


def test_without_seconds_nothing_is_said_of_them(tmp_path: Path, drawn: list[Plot]) -> None:
    page = report(comparison(2, (140,), ("ddim",), timed=False), tmp_path)
    assert "seconds" not in section(page, "Quality under a budget").text
    headings = [th.text for th in section(page, "All results").all("thead")[0].all("th")]
    assert "MMACs" in headings
    assert not {"s", "ms", "µs"} & set(headings)
    assert len(drawn[1].panels) == 1  # type: ignore[attr-defined]


def test_a_model_that_a_budget_is_too_small_for_has_a_dash(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (20, 140), ("ddim",))
    first = base.models[0].model
    made = replace(base, rows=tuple(row for row in base.rows if (row.model, row.budget) != (first, 20)))
    answer = section(report(made, tmp_path), "The answer")
    assert cells(answer.all("table")[0])["", first]["20 passes"].text == "–"
    assert answer.all("p")[0].text.startswith("At 140 block passes")  # where both were measured


def test_curves_are_the_rows(tmp_path: Path, drawn: list[Plot]) -> None:
    made = comparison(2, (280, 140), ("ddim",))  # budgets out of order
    report(made, tmp_path)
    axes: list[Callable[[Result], float]] = [lambda r: r.passes, lambda r: r.macs / 1e6, lambda r: 1e3 * r.seconds]
    panels = [panel for plot in drawn[:2] for panel in plot.panels]  # type: ignore[attr-defined]
    for panel, x in zip(panels, axes, strict=True):
        assert panel.floors == [0.0512]
        for curve in panel.curves:
            mine = sorted((row for row in made.rows if row.model == curve.name), key=lambda row: row.budget)
            assert curve.x == pytest.approx([x(row) for row in mine])
            assert curve.y == [row.distance for row in mine]


def test_the_answer_has_one_plot_with_a_logarithmic_axis_and_only_fpdms_in_colour(
    tmp_path: Path, drawn: list[Plot]
) -> None:
    made = comparison(7, (35, 140), ("ddim", "ddpm"))
    answer = section(report(made, tmp_path, sheets(made), sheets(made)[1]), "The answer")
    assert len({image.attributes["alt"] for image in answer.all("img", "wide")}) == 1
    assert len(answer.all("div", "strips")) == 1
    figure = drawn[0].draw(Look(LIGHT, wide=True))
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert not axes.collections  # no bars of intervals
    fpdms = [one.model for one in made.models if one.kind == "fpdm"]
    curves = [line for line in axes.lines if np.size(line.get_xdata()) == len(made.rows) // 14]  # and not the floor
    colours = [to_hex(line.get_color()) for line in curves]  # type: ignore[arg-type]
    assert sum(colour != LIGHT.muted for colour in colours) == len(fpdms) == 3
    assert sum(colour == LIGHT.muted for colour in colours) == 4


def test_seconds_are_said_to_be_what_they_are(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (140,), ("ddim",))
    assert "seconds on this machine (the mean)" in section(report(base, tmp_path), "Quality under a budget").text
    fastest = replace(base, rows=tuple(replace(row, batches=4) for row in base.rows))
    text = section(report(fastest, tmp_path), "Quality under a budget").text
    assert "seconds on this machine (the fastest of several batches)" in text


def test_self_guidance_is_told_where_a_plan_has_some(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(3, (140,), ("ddim",))
    assert "self-guidance" not in section(report(base, tmp_path / "plain"), "All results").text
    rows = (replace(base.rows[0], self_guidance=0.4, weak_depth=1), *base.rows[1:])
    found = cells(section(report(replace(base, rows=rows), tmp_path / "guided"), "All results").all("table")[0])
    plans = [found["140 block passes", row.model]["steps × iterations, plan"].text for row in rows]
    assert "self-guidance 0.4 (depth 1)" in plans[0]
    assert all("no self-guidance" in plan for plan in plans[1:])
