"""Keys of cells, distances over seeds, and words."""

from __future__ import annotations

from dataclasses import replace

from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import FPDM, Training, dit
from fpdm.reproduce.scale import QUICK
from fpdm.reproduce.study import Distances, Measurements, Table, apart, curve_of, key_of, panels, verdict
from fpdm.sampling.plan import Plan
from tests.reproduce.made import measured

CELL = Cell(Training(FPDM, 0), Plan(140), 20)


def test_a_key_changes_with_whatever_decides_a_cell() -> None:
    others = [
        (replace(CELL, images=21), QUICK),
        (replace(CELL, chosen=True), QUICK),
        (replace(CELL, training=Training(FPDM, 1)), QUICK),
        (replace(CELL, training=Training(dit(4), 0)), QUICK),
        (replace(CELL, plan=Plan(140, reuse=False)), QUICK),
        (CELL, replace(QUICK, macs=3e8)),
        (CELL, replace(QUICK, width=32)),
        (CELL, replace(QUICK, fpdm_rate=1e-3)),
    ]
    assert len({key_of(CELL, QUICK), *(key_of(*one) for one in others)}) == 1 + len(others)
    assert key_of(CELL, QUICK) == key_of(CELL, replace(QUICK, ablation_macs=5.0, seeds=(0, 1)))


def test_distances_are_means_over_seeds_with_the_widest_interval() -> None:
    found = Measurements([measured(CELL, 1.0), measured(replace(CELL, training=Training(FPDM, 1)), 2.0)], {})
    distance = found.distance(FPDM, budget=140)
    assert distance is not None
    assert (distance.mean, distance.low, distance.high) == (1.5, 0.99, 2.02)
    assert found.distance(FPDM, budget=280) is None
    assert found.distance(FPDM, solver="anderson") is None
    assert apart(Distances((measured(CELL, 1.0).result,)), Distances((measured(CELL, 1.1).result,)))
    assert not apart(Distances((measured(CELL, 1.0).result,)), Distances((measured(CELL, 1.01).result,)))


def test_missing_points_leave_a_gap_and_no_curve_if_all_are_missing() -> None:
    known = Distances((measured(CELL, 1.0).result,))
    curve = curve_of("x", [1, 2], [None, known])
    assert curve is not None
    assert ([*curve.x], [*curve.y]) == ([2], [1.0])
    assert curve_of("x", [1], [None]) is None


def test_tables_and_words() -> None:
    assert Table("t", ["a", "b"], [["1", "2"]]).to_markdown() == "t\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert [verdict(holds=h, in_part=p) for h, p in ((True, False), (False, True), (False, False))] == [
        "holds",
        "holds in part",
        "does not hold here",
    ]


def test_panels_show_three_costs_and_the_floors() -> None:
    other = replace(CELL, plan=Plan(280))
    found = Measurements([measured(CELL, 2.0), measured(other, 1.0)], {}, {20: 0.03, 21: 9.0})
    drawn = panels(found, [FPDM, dit(4)], [140, 280], title="DDIM")
    assert [(one.x_label, one.title, [*one.floors]) for one in drawn] == [
        ("block passes per image", "DDIM", [0.1, 0.03]),
        ("MACs per image", "", [0.1, 0.03]),
        ("seconds per image", "", [0.1, 0.03]),
    ]
    assert [[*one.curves[0].x] for one in drawn] == [[140, 280], [1e6, 1e6], [0.1, 0.1]]
    assert [[curve.name for curve in one.curves] for one in drawn] == [["FPDM"]] * 3
    assert panels(found, [dit(4)], [140]) == []
