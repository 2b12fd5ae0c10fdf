"""The limits name the budgets at which DiT is better."""

from __future__ import annotations

from fpdm.reproduce.limits import Limits
from tests.reproduce.made import page, unmeasured, verdicts


def test_dit_has_to_be_better_from_560_on_and_only_there() -> None:
    def distance(first):
        return lambda cell: 1.0 if cell.training.model.name.startswith("DiT") == (cell.plan.budget >= first) else 2.0

    assert verdicts(Limits(), distance(560)) == ["holds"]
    assert verdicts(Limits(), distance(1120)) == ["holds in part"]
    assert verdicts(Limits(), distance(9999)) == ["does not hold here"]
    assert "DiT is better at 1120, 2240 of" in page(Limits(), distance(1120)).claims[0].ours
    assert {claim.verdict for claim in unmeasured(Limits())} == {"not measured"}
