"""How the sections of a report look at the results of a comparison."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fpdm.compare.report_view import View, count, distance_cell, ranking
from tests.compare.made import comparison


def test_names_keep_their_order_and_budgets_are_sorted() -> None:
    base = comparison(3, (280, 35), ("ddpm", "ddim"))
    made = replace(base, rows=base.rows[::-1])
    view = View(made, [])
    assert view.names == tuple(one.model for one in made.models)
    assert (view.budgets, view.samplers) == ((35, 280), ("ddim", "ddpm"))
    assert View(base, []).budgets == (35, 280)
    assert [(row.budget, row.model) for row in view.of_sampler("ddpm")] == [
        (budget, name) for budget in (35, 280) for name in view.names
    ]
    assert {row.sampler for row in view.of_sampler("ddpm")} == {"ddpm"}


def test_the_best_sampler_of_a_model_is_that_of_the_validation_images() -> None:
    base = comparison(2, (140,), ("ddim", "ddpm"))
    first, second = (one.model for one in base.models)
    choosing = {("ddim", first): 2.0, ("ddpm", first): 1.0, ("ddim", second): None, ("ddpm", second): 9.0}
    rows = tuple(
        replace(row, choosing_distance=choosing[row.sampler, row.model], distance=5.0 if row.sampler == "ddpm" else 1.0)
        for row in base.rows
    )
    best = View(replace(base, rows=rows), []).best(140)
    assert [(row.model, row.sampler) for row in best] == [(first, "ddpm"), (second, "ddpm")]
    assert [row.model for row in View(replace(base, rows=rows[1:2]), []).best(140)] == [second]


@pytest.mark.parametrize(("seconds", "timed"), [(0.1, True), (0.0, False), (math.nan, False), (math.inf, False)])
def test_results_are_timed_if_all_of_them_are(seconds: float, timed: bool) -> None:
    base = comparison(2, (140,), ("ddim",))
    assert View(replace(base, rows=(base.rows[0], replace(base.rows[1], seconds=seconds))), []).timed == timed


def test_floors_of_fewer_images_are_told() -> None:
    base = comparison(3, (140,), ("ddim",))
    rows = tuple(replace(row, floor_images=n) for row, n in zip(base.rows, (1000, 300, 2000), strict=True))
    assert View(base, []).real_count == "as many as were generated"
    assert View(replace(base, rows=rows), []).real_count == "as many as were generated or all 300 available"


def test_a_cell_is_marked_by_its_interval() -> None:
    base = comparison(3, (140,), ("ddim",))
    bounds = ((1.0, 0.9, 1.1), (1.2, 1.05, 1.3), (2.0, 1.9, 2.1))
    rows = [
        replace(row, distance=d, distance_low=low, distance_high=high)
        for row, (d, low, high) in zip(base.rows, bounds, strict=True)
    ]
    order = ranking(rows)
    assert (order.budget, order.best.name) == (140, rows[0].model)
    found = [distance_cell(row, order, 2, "ddim") for row in rows]
    assert [(cell.text, cell.detail, cell.mark) for cell in found] == [
        ("1.00", "0.90 to 1.10, ddim", "best"),
        ("1.20", "1.05 to 1.30, ddim", "even"),
        ("2.00", "1.90 to 2.10, ddim", ""),
    ]
    assert distance_cell(rows[0], ranking(rows[:1]), 1).mark == ""  # alone, it beats nobody


def test_counts_in_words() -> None:
    assert [count(value) for value in (1234, 1_234_567, 86_500_256)] == ["1.23 k", "1.23 M", "86.5 M"]
