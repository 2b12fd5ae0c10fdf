"""The study of self-guidance tells apart what it brings, and who is on the envelope without and with it."""

from __future__ import annotations

from dataclasses import replace

from fpdm.reproduce.bench import Cell
from fpdm.reproduce.evaluator import SECOND
from fpdm.reproduce.self_guidance import CURVE, SelfGuidance
from fpdm.reproduce.study import Measurements
from tests.reproduce.made import SCALE, measured, unmeasured


def verdicts(gain: float, dit: float) -> list[str]:
    """The verdicts if guidance multiplies FPDM's distance 1 by `gain`, and all DiTs have `dit`."""

    def distance(cell: Cell) -> float:
        if cell.training.model.name.startswith("DiT"):
            return dit
        return gain if cell.plan.self_guidance else 1.0

    cells = [measured(cell, distance(cell)) for cell in SelfGuidance().cells(SCALE)]
    return [claim.verdict for claim in SelfGuidance().page(SCALE, Measurements(cells, {})).claims]


def test_the_gain_and_the_envelope() -> None:
    assert verdicts(0.7, 0.8) == ["holds", "holds", "does not hold here", "holds"]
    assert verdicts(0.9, 2.0) == ["holds in part", "holds in part", "holds", "holds"]
    assert verdicts(1.1, 1.05) == ["does not hold here", "does not hold here", "holds", "does not hold here"]
    assert {claim.verdict for claim in unmeasured(SelfGuidance())} == {"not measured"}


def test_cells_are_within_their_budgets() -> None:
    for cell in SelfGuidance().cells(SCALE):
        blocks = cell.training.model.base.partition("dit-")[2]
        if blocks:
            assert cell.plan.budget >= int(blocks) + bool(cell.plan.self_guidance)


def test_the_envelope_asks_for_every_budget() -> None:
    def distance(cell: Cell) -> float:
        return 2.0 if not cell.training.model.name.startswith("DiT") and cell.plan.budget == 560 else 1.0

    cells = [measured(cell, distance(cell)) for cell in SelfGuidance().cells(SCALE)]
    claims = SelfGuidance().page(SCALE, Measurements(cells, {})).claims
    assert [claim.verdict for claim in claims[2:]] == ["holds in part", "holds in part"]
    assert claims[3].ours.endswith("1.00 times at 280, 2.00 times at 560")


def test_tables_and_curves_have_what_was_measured() -> None:
    second = {SECOND: 3.0, f"{SECOND}_low": 2.5, f"{SECOND}_high": 3.5}
    cells = [measured(cell, 1.0 + cell.plan.self_guidance) for cell in SelfGuidance().cells(SCALE)]
    cells = [replace(one, result=replace(one.result, measures=second)) for one in cells]
    page = SelfGuidance().page(SCALE, Measurements(cells, {}))
    distances, reconstruction, plans, classes = page.tables
    assert [row[0] for row in distances.rows][:2] == ["FPDM", "FPDM, guided"]
    assert distances.rows[1][1].startswith("2 (")
    assert reconstruction.rows[0][1] == "3 (2.5 to 3.5)"
    assert plans.rows[0][1].startswith("1, depth 1; ")
    assert classes.rows[1][:3] == ["FPDM", "1", "2 (1.98 to 2.02)"]
    curve = page.plots["self-guidance-weights"].panels[0].curves[0]
    assert (tuple(curve.x), list(curve.y)) == (CURVE, [1.0 + weight for weight in CURVE])
