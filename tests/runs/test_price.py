"""The price of a run's images, and its budget in any unit."""

from __future__ import annotations

import json

import pytest

from fpdm.runs.description import describe_run
from fpdm.runs.pretrained import load_model
from fpdm.runs.price import predict, resolve
from fpdm.sampling.plan import Plan
from fpdm.sampling.price import Amount


def test_of_the_model_that_comes_with_the_package() -> None:
    run = load_model("fpdm-fashion")
    described = describe_run(run, 4)
    found = predict(run, described, "12", batch_size=2, seconds=0.0)
    assert (found.plan.budget, found.plan.iterations, found.steps) == (12, 4, 2)
    values = json.loads(found.to_json())
    assert values["price"]["passes"] == 12
    assert values["block_passes"] == 6
    assert found.to_text().splitlines()[-1].startswith("a budget of 12 in 2 steps: 12 block passes and ")
    macs = values["price"]["macs"]
    assert predict(run, described, f"{macs + 1:.0f}MAC", batch_size=2, seconds=0.0).plan.budget == 12
    assert resolve(run, Amount(280, "passes"), Plan(1)) == 280
    assert resolve(run, Amount(1000.0, "seconds"), Plan(1), seconds=0.0) > 12
    with pytest.raises(ValueError, match="seconds is below one step"):
        resolve(run, Amount(1e-9, "seconds"), Plan(1, guidance=2.0, self_guidance=1.0), seconds=0.0)
