"""Figure 4 looks for a minimum inside the numbers of iterations."""

from __future__ import annotations

import pytest

from fpdm.reproduce.figure4 import Figure4
from tests.reproduce.made import page, unmeasured, verdicts


@pytest.mark.parametrize(
    ("best", "slope", "verdict"),
    [(5, 0.1, "holds"), (5, 1e-4, "holds in part"), (1, 0.1, "does not hold here"), (68, 0.1, "does not hold here")],
)
def test_the_best_number_has_to_lie_inside_and_clearly(best: int, slope: float, verdict: str) -> None:
    assert verdicts(Figure4(), lambda cell: 1 + slope * abs(cell.plan.iterations - best)) == [verdict, verdict]


def test_the_baseline_is_named_and_drawn() -> None:
    shown = page(Figure4(), lambda _: 2.0)
    assert shown.notes == ["DiT-28 at the same budget: 2 (1.98 to 2.02)."]
    assert shown.tables[0].rows[0] == ["1", "93", "2 (1.98 to 2.02)", "2 (1.98 to 2.02)"]
    assert {claim.verdict for claim in unmeasured(Figure4())} == {"not measured"}
