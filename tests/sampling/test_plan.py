"""Plans: their names are those of the registries, and what is wrong is told before a model is loaded."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from fpdm.configuration import from_values
from fpdm.models.config import preset
from fpdm.models.cost import model_cost
from fpdm.sampling.allocation import ALLOCATIONS
from fpdm.sampling.images import SOLVERS
from fpdm.sampling.plan import AllocationName, Plan, SamplerName, SolverName, macs_per_image
from fpdm.sampling.steps import STEPS


def test_names_are_those_of_the_registries() -> None:
    assert get_args(SamplerName) == STEPS
    assert get_args(AllocationName) == (*ALLOCATIONS, "adaptive")
    assert get_args(SolverName) == (*SOLVERS,)
    assert [name for name in get_args(AllocationName) if Plan(1, allocation=name).adaptive] == ["adaptive"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "budget is 0; expected an integer of at least 1"),
        ({"iterations": -1}, "iterations is -1; expected an integer of at least 0"),
        ({"sampler": "ddmi"}, "sampler is 'ddmi'; expected one of ddim, ddpm, .*did you mean ddpm"),
        ({"grid": "trialing"}, r"the timestep grid is 'trialing'; expected trailing, .*did you mean trailing"),
        ({"grid": "phi^"}, r"the timestep grid is 'phi\^'"),
        ({"grid": "phi^0"}, "the power of phi is 0.0; expected a positive number"),
        ({"allocation": "adaptiv"}, "allocation is 'adaptiv'; expected one of .*did you mean adaptive"),
        ({"guidance": -1.0}, "guidance is -1.0; expected a number of at least 0"),
        ({"guidance": float("nan")}, "guidance is nan; expected a finite number"),
        ({"solver": "newton"}, "solver is 'newton'; expected one of picard, anderson"),
        ({"reuse": 1}, "reuse is 1; expected true or false"),
        ({"self_guidance": -0.5}, "self_guidance is -0.5; expected a number of at least 0"),
        ({"self_guidance": float("inf")}, "self_guidance is inf; expected a finite number"),
        ({"self_guidance": 1.0, "weak_depth": -1}, "weak_depth is -1; expected an integer of at least 0"),
        ({"weak_depth": 1}, "weak_depth is given, but self_guidance is 0; give its weight too"),
        ({"self_guidance_range": (0, 9)}, "self_guidance_range is given, but self_guidance is 0"),
        ({"self_guidance": 1.0, "self_guidance_range": (9, 0)}, "is .9, 0.; expected two timesteps, the lower one"),
        ({"self_guidance": 1.0, "self_guidance_range": (9,)}, "is .9,.; expected two timesteps, the lower one first"),
        ({"self_guidance": 1.0, "self_guidance_range": (-1, 9)}, "self_guidance_range is -1; expected an integer"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**{"budget": 140, **changes})


@pytest.mark.parametrize("grid", ["trailing", "linspace", "phi^1", "phi^1.5", "phi^.5"])
def test_grids_that_there_are(grid: str) -> None:
    assert Plan(140, grid=grid).grid == grid


def test_records_of_plans_without_self_guidance_are_as_they_were() -> None:
    assert list(Plan(140).values()) == [
        *("budget", "iterations", "sampler", "grid", "allocation", "reuse", "guidance", "solver")
    ]
    guided = Plan(140, 5, self_guidance=1.0, weak_depth=2, self_guidance_range=(0, 500))
    for plan in (Plan(140), guided):
        assert from_values(Plan, json.loads(json.dumps(plan.values())), "plan") == plan
    assert guided.self_guidance_in_words() == "self-guidance 1, weak depth 2, timesteps 0 to 500"


def test_an_open_number_of_iterations_is_5_where_there_is_a_choice() -> None:
    fpdm, dit = (model_cost(preset(f"{kind}-digits")) for kind in ("fpdm", "dit"))
    assert Plan(140).with_iterations(fpdm) == Plan(140, 5)
    assert Plan(140, 3).with_iterations(fpdm) == Plan(140, 3)
    assert Plan(140).with_iterations(dit) == Plan(140)


def test_the_estimate_for_an_image_is_exact_where_a_budget_is_whole_steps() -> None:
    cost = model_cost(preset("fpdm-digits"))
    for plan, iterations in ((Plan(4 * cost.passes(3), 3), 3), (Plan(4 * cost.passes(5)), 5)):
        assert macs_per_image(plan, cost) == pytest.approx(4 * cost.evaluation_macs(iterations))
