"""Table 3 asks which M = N is best and which is worst."""

from __future__ import annotations

from fpdm.reproduce.table3 import Table3
from tests.reproduce.made import unmeasured, verdicts


def test_the_best_has_to_be_3_or_6_and_the_worst_24() -> None:
    def iterations(cell):
        return cell.training.model.training["grad_iters"]

    assert verdicts(Table3(), iterations) == ["holds"]
    assert verdicts(Table3(), lambda cell: 1.0 if iterations(cell) == 6 else 100 - iterations(cell)) == [
        "holds in part"
    ]
    assert verdicts(Table3(), lambda cell: 100 - iterations(cell)) == ["does not hold here"]
    assert {claim.verdict for claim in unmeasured(Table3())} == {"not measured"}
