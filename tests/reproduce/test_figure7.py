"""Figure 7 asks whether explicit blocks beat none at every budget."""

from __future__ import annotations

from fpdm.reproduce.figure7 import Figure7
from tests.reproduce.made import unmeasured, verdicts


def test_one_block_has_to_beat_none_at_every_budget() -> None:
    def blocks(cell):
        return cell.training.model.network.get("pre_blocks", 1)

    assert verdicts(Figure7(), lambda cell: 2.0 - 0.1 * blocks(cell)) == ["holds"]
    assert verdicts(Figure7(), lambda cell: 2.0 + (0.1 if cell.plan.budget == 140 else -0.1) * blocks(cell)) == [
        "holds in part"
    ]
    assert verdicts(Figure7(), lambda cell: 2.0 + blocks(cell)) == ["does not hold here"]
    assert {claim.verdict for claim in unmeasured(Figure7())} == {"not measured"}
