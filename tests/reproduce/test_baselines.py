"""The map of baselines names the best of all models at each budget."""

from __future__ import annotations

from fpdm.reproduce.baselines import Baselines
from tests.reproduce.made import page, unmeasured, verdicts


def test_the_best_model_is_named() -> None:
    def distance(best):
        return lambda cell: 1.0 if cell.training.model.name == best else 2.0

    assert verdicts(Baselines(), distance("FPDM")) == ["holds"]
    assert verdicts(Baselines(), distance("FPDM, timestep everywhere")) == ["holds in part"]
    assert verdicts(Baselines(), distance("DiT-4")) == ["does not hold here"]
    assert page(Baselines(), distance("DiT-4")).claims[0].ours.startswith("DiT-4 1 (0.99 to 1.01)")
    assert {claim.verdict for claim in unmeasured(Baselines())} == {"not measured"}
