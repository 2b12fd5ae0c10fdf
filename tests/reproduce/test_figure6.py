"""Figure 6 compares each number of iterations with and without reuse."""

from __future__ import annotations

import pytest

from fpdm.reproduce.figure6 import Figure6
from tests.reproduce.made import page, unmeasured, verdicts


@pytest.mark.parametrize(
    ("gain", "at_12", "verdict"),
    [(1.3, 1.0, "holds"), (1.3, 1.3, "holds in part"), (1.0, 1.0, "does not hold here")],
)
def test_reuse_has_to_help_at_few_iterations_and_not_at_many(gain: float, at_12: float, verdict: str) -> None:
    def distance(cell):
        return 1.0 if cell.plan.reuse else at_12 if cell.plan.iterations == 12 else gain

    assert verdicts(Figure6(), distance) == [verdict]


def test_residuals_have_a_curve_for_each_timestep() -> None:
    shown = page(Figure6(), lambda _: 1.0, timesteps=[999, 500], residuals=[[0.5, 0.1], [0.3, 0.2]])
    assert [*shown.plots] == ["figure6a", "figure6b"]
    assert {claim.verdict for claim in unmeasured(Figure6())} == {"not measured"}
