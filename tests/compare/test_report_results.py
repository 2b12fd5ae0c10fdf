"""The sections about the results: every number of the comparison is in them, and nothing that it does not say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.compare.results import Result
from fpdm.drawing.plots import Plot
from tests.compare.made import comparison
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
    answer = section(page, "The answer")
    assert answer.all("p")[0].text == (
        f"At 140 block passes {rows[0].model} has the lowest Fréchet distance, 1.00 (0.90 to 1.10). "
        f"There is no clear difference to {rows[1].model}: the intervals overlap."
    )
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
    assert answer.all("p")[0].text.startswith(f"At 140 block passes {names[0]} has the lowest Fréchet distance, 1.00 (")
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
    assert len(drawn[0].panels) == 2  # type: ignore[attr-defined]


def test_a_model_that_a_budget_is_too_small_for_has_a_dash(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(2, (20, 140), ("ddim",))
    first, second = (one.model for one in base.models)
    made = replace(base, rows=tuple(row for row in base.rows if (row.model, row.budget) != (first, 20)))
    answer = section(report(made, tmp_path), "The answer")
    assert cells(answer.all("table")[0])["", first]["20 passes"].text == "–"
    assert f"At 20 only {second} was measured" in answer.text


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


def test_self_guidance_is_told_where_a_plan_has_some(tmp_path: Path, drawn: list[Plot]) -> None:
    base = comparison(3, (140,), ("ddim",))
    assert "self-guidance" not in section(report(base, tmp_path / "plain"), "All results").text
    rows = (replace(base.rows[0], self_guidance=0.4, weak_depth=1), *base.rows[1:])
    found = cells(section(report(replace(base, rows=rows), tmp_path / "guided"), "All results").all("table")[0])
    plans = [found["140 block passes", row.model]["iterations × steps, plan"].text for row in rows]
    assert "self-guidance 0.4 (depth 1)" in plans[0]
    assert all("no self-guidance" in plan for plan in plans[1:])
