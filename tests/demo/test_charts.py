"""Charts of a plan show its numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from fpdm.demo.charts import MEASURED, bars, describe, trade
from fpdm.runs.pretrained import SHIPPED
from tests import pipelines


def test_bars_are_as_high_as_their_iterations() -> None:
    tree = ET.fromstring(bars([2, 4, 40]))
    heights = [float(one.attrib["height"]) for one in tree.iter("{http://www.w3.org/2000/svg}rect")]
    assert heights == pytest.approx([2.8, 5.6, 56])


def test_the_curve_marks_what_was_chosen_and_measured() -> None:
    cost = pipelines.network().cost()
    tree = ET.fromstring(trade(cost, 140, 5, ((140, 280), (5,))))
    circles = [(one.attrib["cx"], one.attrib["cy"]) for one in tree.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(circles) == 3
    assert circles[0] == circles[2]  # what was chosen lies on what was measured at 140
    assert float(circles[1][1]) < float(circles[0][1])  # twice the budget: more steps
    written = {one.text: float(one.attrib["y"]) for one in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert written["100"] < float(circles[1][1]) < float(circles[0][1]) < written["10"]  # 40 and 20 steps
    assert "dashed: budgets that were measured" in written
    assert "dashed" not in trade(cost, 140, 5, None)


def test_a_plan_is_said_in_one_line() -> None:
    assert (
        describe(pipelines.pixels().sampler(budget=141, iterations=5))
        == "20 steps x 5 to 6 iterations, 141 of 141 block passes"
    )
    dit = pipelines.pixels(dit=True)
    assert describe(dit.sampler(budget=141)) == "35 steps x 2 blocks in the middle, 140 of 141 block passes"


def test_what_is_marked_as_measured_stands_on_the_models_card() -> None:
    for name, (budgets, _) in MEASURED.items():
        card = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
        assert all(f"{budget} block passes" in card for budget in budgets)
