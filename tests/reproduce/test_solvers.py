"""Solvers are told apart, which results alone do not do."""

from __future__ import annotations

from fpdm.reproduce.solvers import Solvers
from tests.reproduce.made import page, unmeasured, verdicts


def test_plain_iteration_has_to_be_as_good() -> None:
    def distance(anderson):
        return lambda cell: anderson if cell.plan.solver == "anderson" else 1.0

    assert verdicts(Solvers(), distance(1.2)) == ["holds"]
    assert verdicts(Solvers(), distance(0.97)) == ["holds in part"]
    assert verdicts(Solvers(), distance(0.5)) == ["does not hold here"]
    rows = page(Solvers(), distance(0.5)).tables[0].rows
    assert [row[1] for row in rows] == ["1 (0.99 to 1.01)"] * 2 + ["0.5 (0.495 to 0.505)"] * 2
    assert {claim.verdict for claim in unmeasured(Solvers())} == {"not measured"}
