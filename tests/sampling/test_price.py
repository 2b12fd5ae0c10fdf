"""The price of a plan: amounts in any unit, and predictions that add up."""

from __future__ import annotations

import pytest
import torch
from benchmarks.live import peak_bytes

from fpdm.models.config import as_dit, preset
from fpdm.models.cost import model_cost
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from fpdm.sampling.price import Amount, Calibration, affordable_passes, calibrate, price
from tests.sampling.helpers import SCHEDULE, small_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("280", 280, "passes"),
        ("30GMAC", 30e9, "macs"),
        ("1.5 TMACs", 1.5e12, "macs"),
        ("7mac", 7, "macs"),
        ("0.5s", 0.5, "seconds"),
        ("250 ms", 0.25, "seconds"),
        (".5S", 0.5, "seconds"),
    ],
)
def test_an_amount_is_read_in_its_unit(text: str, value: float, unit: str) -> None:
    assert Amount.parse(text) == Amount(value, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "0s", "0.0MAC", "2.5", "-3", "30G", "30 Gs", "1e3", "five", "s", "nan", "9" * 40 + "s", "5 m", "٣"]
)
def test_what_is_no_amount_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="expected block passes \\(280\\), MACs \\(30GMAC\\) or seconds") as error:
        Amount.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", ["fpdm-s/8", "dit-s/8"])
@pytest.mark.parametrize("evaluations", [1, 2])
def test_a_budget_in_macs_is_the_largest_that_costs_no_more(model: str, evaluations: int) -> None:
    cost = model_cost(preset(model))
    iterations = 5 if cost.middle.adjustable else 0

    def macs(passes: int) -> float:
        """MACs of a plan, from the table that the sampler would use."""
        steps = passes // cost.passes(iterations or cost.middle.iterations.start) or 1
        left = passes - steps * cost.explicit if cost.middle.adjustable else steps * cost.middle.iterations.start
        return evaluations * (steps * cost.evaluation_macs(0) + left * cost.middle.iterate)

    for amount in (3e9, 1e11):
        found = affordable_passes(Amount(amount, "macs"), cost, iterations, evaluations=evaluations)
        assert macs(found) <= amount < macs(found + 1) * 1.0001


def test_a_budget_in_seconds_is_the_largest_that_takes_no_longer() -> None:
    cost, calibration = model_cost(preset("fpdm-s/8")), Calibration(1, around=0.3, iteration=0.1, decoding=0.05)
    # 3 steps of 5 iterations take 0.9 + 1.5 + 0.05 seconds.
    for amount, passes in ((2.45, 21), (2.44, 20), (2.54, 21), (2.55, 22)):
        found = affordable_passes(Amount(amount, "seconds"), cost, 5, evaluations=1, calibration=calibration)
        assert found == passes
    with pytest.raises(ValueError, match=r"below one step; expected at least 0\.45"):
        affordable_passes(Amount(0.4, "seconds"), cost, 5, evaluations=1, calibration=calibration)


def test_a_calibration_adds_up() -> None:
    assert Calibration(4, 0.3, 0.1, 0.5).seconds(2, 10) == pytest.approx(2.1)
    for shape in (small_model().shape, as_dit(small_model().shape, 4)):
        sampler = ImageSampler(DiffusionTransformer.from_shape(shape), SCHEDULE, Plan(28), device=CPU)
        found = calibrate(sampler, 2, seconds=0.0)
        assert found.around >= 0
        assert found.around + found.iteration > 0
        assert found.decoding == 0.0
        if not sampler.cost.middle.adjustable:
            assert found.iteration == 0.0


@pytest.mark.parametrize(
    "changes", [{}, {"guidance": 2.0}, {"self_guidance": 1.0}, {"allocation": "adaptive"}], ids=str
)
def test_a_price_has_the_costs_of_the_plan(changes: dict[str, object]) -> None:
    sampler = ImageSampler(small_model(), SCHEDULE, Plan(28, 5, **changes), device=CPU)  # type: ignore[arg-type]
    found = price(sampler, batch_size=3, seconds=0.0)
    if not sampler.plan.adaptive:
        drawn = sampler([0], [0])
        assert (found.passes, found.macs) == pytest.approx((drawn.passes, drawn.macs))
    assert 0 < found.passes <= 28
    assert found.latency > 0
    assert found.throughput > 0
    assert "block passes" in found.to_text()


@pytest.mark.parametrize("model", ["fpdm-s/8", "dit-s/8"])
def test_the_memory_is_that_of_the_tensors(model: str) -> None:
    network = DiffusionTransformer.from_shape(preset(model)).eval()
    x, t, y = torch.randn(4, 4, 32, 32), torch.full((4,), 9), torch.zeros(4, dtype=torch.int64)

    def two_steps() -> None:
        with torch.no_grad():
            network(x, t, y, z0=network(x, t, y).solution.z)

    assert network.cost().peak_memory(4) == pytest.approx(peak_bytes(two_steps), rel=0.15)
