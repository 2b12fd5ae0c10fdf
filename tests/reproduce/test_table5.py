"""Table 5 counts where the increasing allocation is the best heuristic."""

from __future__ import annotations

from fpdm.reproduce.table5 import Table5
from tests.reproduce.made import unmeasured, verdicts

ORDER = {"increasing": 1.0, "constant": 2.0, "decreasing": 3.0, "adaptive": 0.5}


def test_increasing_has_to_be_best_at_every_number() -> None:
    assert verdicts(Table5(), lambda cell: ORDER[cell.plan.allocation]) == ["holds"]
    assert verdicts(Table5(), lambda cell: ORDER[cell.plan.allocation] * (-1 if cell.plan.iterations == 3 else 1)) == [
        "holds in part"
    ]
    assert verdicts(Table5(), lambda cell: 4 - ORDER[cell.plan.allocation]) == ["does not hold here"]
    assert {claim.verdict for claim in unmeasured(Table5())} == {"not measured"}
