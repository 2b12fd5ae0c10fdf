"""The plan that a model's defaults give for a budget: stored, tuned, or between two that are tuned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fpdm.configuration import from_values, parse_json
from fpdm.models.config import as_dit
from fpdm.models.cost import model_cost
from fpdm.sampling.defaults import SamplingDefaults, TunedPlan, interpolate
from fpdm.sampling.plan import Plan
from tests.pipelines import SHAPE

BASE = Plan(140)
COST, DIT = model_cost(SHAPE), model_cost(as_dit(SHAPE, 4))  # 2 block passes a step and 1 an iteration; 4 a step
LOW = Plan(40, 2, "ddim", "phi^1", "increasing", reuse=False)
HIGH = Plan(160, 8, "unipc", "phi^2", "constant", reuse=True)


def tuned(*plans: Plan, base: Plan = BASE) -> SamplingDefaults:
    return SamplingDefaults(base, tuple(TunedPlan(plan, 0.5, 100, "abc") for plan in plans))


def complete(defaults: SamplingDefaults, cost: Any = COST, **given: Any) -> Plan:
    return defaults.complete(given, cost, 1000).plan


def test_without_tuning_the_stored_plan_holds_at_any_budget() -> None:
    stored = tuned(base=Plan(70, 3, reuse=False))
    assert complete(stored) == Plan(70, 3, reuse=False)
    assert complete(stored, budget=30) == Plan(30, 3, reuse=False)
    assert complete(stored, budget=30, reuse=True, iterations=1) == Plan(30, 1, reuse=True)
    assert stored.complete({}, COST, 1000).origin == ""


def test_a_tuned_budget_has_its_plan_and_options_that_are_given_win() -> None:
    both = tuned(LOW, HIGH)
    assert complete(both, budget=40) == LOW
    assert complete(both, budget=160, grid="trailing", iterations=3) == replace(HIGH, grid="trailing", iterations=3)
    assert both.complete({"budget": 40}, COST, 1000).origin == "tuned for 40 block passes"


def test_between_two_budgets_numbers_are_interpolated_and_names_are_those_of_the_nearer() -> None:
    # 80 is the geometric mean of 40 and 160, where 2 and 8 give 4, and the powers 1 and 2 give 1.5.
    assert interpolate(LOW, HIGH, 80) == Plan(80, 4, "unipc", "phi^1.5", "constant", reuse=True)
    assert interpolate(LOW, HIGH, 79).sampler == "ddim"
    assert interpolate(LOW, HIGH, 40) == LOW
    assert interpolate(LOW, HIGH, 160) == HIGH
    trailing = interpolate(replace(LOW, grid="trailing"), HIGH, 50)
    assert (trailing.grid, trailing.allocation, trailing.reuse) == ("trailing", "increasing", False)
    found = tuned(LOW, HIGH).at(80)
    assert found.origin == "between those tuned for 40 and 160 block passes"


def test_the_weight_of_self_guidance_is_interpolated_where_both_have_the_same_kind() -> None:
    low, high = replace(LOW, self_guidance=1.0, weak_depth=1), replace(HIGH, self_guidance=3.0, weak_depth=1)
    assert interpolate(low, high, 80).self_guidance == pytest.approx(2.0)
    assert interpolate(low, replace(high, weak_depth=2), 80).self_guidance == 3.0
    assert interpolate(low, HIGH, 60).self_guidance == 1.0
    assert interpolate(low, HIGH, 120).self_guidance == 0.0


def test_outside_the_nearest_tuned_plan_holds_and_says_so() -> None:
    both = tuned(LOW, HIGH)
    assert complete(both, budget=20) == replace(LOW, budget=20)
    assert complete(both, budget=500) == replace(HIGH, budget=500)
    assert both.at(500).origin == "tuned for 160 block passes, the nearest budget that was"


def test_plans_for_other_weights_are_said_to_be() -> None:
    one = tuned(LOW)
    assert one.at(40, weights="abc").origin == "tuned for 40 block passes"
    assert one.at(40, weights="def").origin == "tuned for 40 block passes, which was for earlier weights"


def test_iterations_that_are_not_given_are_ones_that_the_budget_pays_for() -> None:
    assert complete(SamplingDefaults(), budget=6).iterations == 4
    assert complete(SamplingDefaults(), budget=7).iterations == 5
    few = tuned(Plan(40, 1))
    for budget in (2999, 3000, 3002, 3003, 3004, 4003, 4004, 4005, 70_000):
        plan = complete(few, budget=budget)
        steps = [budget // (2 + i) for i in range(1, 200)]  # by brute force
        assert plan.iterations == 1 + next(i for i, count in enumerate(steps) if count <= 1000), budget
    assert complete(few, budget=3003, iterations=1).iterations == 1  # which is refused, as ever
    with pytest.raises(ValueError, match="a budget of 2 block passes is below one step"):
        complete(few, budget=2)
    assert complete(SamplingDefaults(), DIT, budget=3).iterations == 0  # a stack has no choice


def test_self_guidance_that_a_budget_cannot_pay_for_is_left_out_unless_it_is_given() -> None:
    guided = tuned(replace(LOW, iterations=1, self_guidance=1.0, weak_depth=1))
    assert complete(guided, budget=40).self_guidance == 1.0
    assert complete(guided, budget=3) == Plan(3, 1, "ddim", "phi^1", "increasing", reuse=False)
    assert complete(guided, budget=3, self_guidance=2.0).self_guidance == 2.0
    assert complete(guided, budget=40, self_guidance=0.0).weak_depth is None
    asked: list[dict[str, Any]] = [{}, {"self_guidance": 2.0}, {"self_guidance": 0.0}, {"budget": 3}]
    assert [guided.complete({"budget": 40, **one}, COST, 1000).guided for one in asked] == [True, False, False, False]


def test_a_new_plan_takes_the_place_of_the_one_for_its_budget() -> None:
    one, other = TunedPlan(HIGH, 0.5, 100), TunedPlan(replace(HIGH, iterations=3), 0.4, 100)
    found = tuned(LOW).with_tuned(one).with_tuned(other)
    assert [item.plan for item in found.tuned] == [LOW, other.plan]


def test_defaults_are_read_as_they_were_written_and_checked() -> None:
    both = tuned(LOW, replace(HIGH, self_guidance=1.0, weak_depth=0, self_guidance_range=(0, 500)))
    values = parse_json(both.to_json(), "it")
    assert from_values(SamplingDefaults, values, "it") == both
    with pytest.raises(ValueError, match=r"tuned has the budgets \[160, 40\]; expected each once, from small to large"):
        tuned(HIGH, LOW)
    values["tuned"][0]["plan"]["sampler"] = "ddmi"
    with pytest.raises(ValueError, match="sampler is 'ddmi'; expected one of"):
        from_values(SamplingDefaults, values, "it")
