"""The plan that the arguments of a call and a scheduler describe."""

from __future__ import annotations

import re
from typing import Any

import pytest
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import as_dit
from fpdm.models.cost import model_cost
from fpdm.pipeline.plan import choose_plan
from fpdm.sampling.defaults import SamplingDefaults, TunedPlan
from fpdm.sampling.plan import Plan
from fpdm.sampling.schedulers import default_scheduler
from tests.pipelines import SHAPE

SCHEDULE = Schedule()
UNTUNED = SamplingDefaults()
OURS = default_scheduler(SCHEDULE, clip=True)


def plan(
    guidance_scale: float | None = None,
    steps: int | None = None,
    scheduler: Any = OURS,
    dit: bool = False,
    defaults: SamplingDefaults = UNTUNED,
    **given: Any,
) -> Plan:
    cost = model_cost(as_dit(SHAPE, 4) if dit else SHAPE)
    how: Any = {"scheduler": scheduler, "schedule": SCHEDULE, "cost": cost, "defaults": defaults}
    return choose_plan(given, guidance_scale, steps, **how).plan


def test_two_of_budget_iterations_and_steps_say_what_the_third_is() -> None:
    # An evaluation of this network takes 2 block passes and 1 more for each iteration.
    assert plan() == Plan(140, iterations=5)
    assert plan(steps=6) == Plan(42, iterations=5)
    assert plan(steps=6, iterations=3) == Plan(30, iterations=3)
    assert plan(budget=56, iterations=2) == Plan(56, iterations=2)
    assert plan(budget=56, steps=4) == Plan(56, iterations=5)  # the sampler divides the budget over 4 steps
    assert plan(steps=6, dit=True).budget == 24
    # A weaker answer takes another post block, and all but the first another iteration.
    assert plan(steps=6, self_guidance=1.0).budget == 42 + 6 + 5
    assert plan(steps=6, self_guidance=1.0, scheduler=UniPCMultistepScheduler.from_config(OURS.config)).budget == 53
    for scheduler in (OURS, UniPCMultistepScheduler.from_config(OURS.config)):
        with pytest.raises(
            ValueError, match="num_inference_steps is 0; expected an integer of at least 1 and up to 1000"
        ):
            plan(steps=0, scheduler=scheduler)
    with pytest.raises(ValueError, match="two say what the third is"):
        plan(budget=56, steps=4, iterations=3)


def test_guidance_is_off_up_to_a_scale_of_one() -> None:
    assert [plan(scale).guidance for scale in (None, -2.0, 0.0, 1, 1.5)] == [1.0, 1.0, 1.0, 1.0, 1.5]
    for wrong in (float("nan"), "4", [4.0]):
        with pytest.raises(ValueError, match=re.escape(f"guidance_scale is {wrong!r}; expected a")):
            plan(wrong)  # type: ignore[arg-type]


def test_a_scheduler_that_stands_for_our_sampler_decides_it_unless_the_call_does() -> None:
    ddpm = DDPMScheduler.from_config(OURS.config)
    linspace = DDIMScheduler.from_config(OURS.config, timestep_spacing="linspace")
    assert plan(scheduler=ddpm).sampler == "ddpm"
    assert plan(scheduler=ddpm, sampler="unipc").sampler == "unipc"
    assert plan(scheduler=linspace).grid == "linspace"
    assert plan(scheduler=linspace, grid="phi^2").grid == "phi^2"
    leading = DDIMScheduler.from_config(OURS.config, timestep_spacing="leading")
    with pytest.raises(ValueError, match="timestep_spacing 'leading', which leaves out pure noise"):
        plan(scheduler=leading)


@pytest.mark.parametrize("kind", [UniPCMultistepScheduler, DPMSolverMultistepScheduler])
def test_another_scheduler_is_paid_by_its_evaluations(kind: Any) -> None:
    scheduler = kind.from_config(OURS.config)
    assert plan(steps=6, scheduler=scheduler).budget == 42


def test_what_a_plan_does_not_have_is_refused() -> None:
    assert plan(solver="anderson").solver == "anderson"
    with pytest.raises(TypeError, match=r"there is no argument 'bugdet'; did you mean budget\?"):
        plan(bugdet=3)
    with pytest.raises(TypeError, match=r"there is no argument 'guidence_scale'; did you mean guidance_scale\?"):
        plan(guidence_scale=3)
    with pytest.raises(ValueError, match=r"did you mean constant\?"):
        plan(allocation="constnat")


TUNED = SamplingDefaults(tuned=(TunedPlan(Plan(56, 2, "unipc", "phi^1.5", reuse=False), 0.1, 100),))


def test_a_tuned_plan_holds_for_what_is_left_out() -> None:
    assert plan(defaults=TUNED, budget=56) == TUNED.tuned[0].plan
    assert plan(defaults=TUNED, budget=56, sampler="ddim", reuse=True) == Plan(56, 2, "ddim", "phi^1.5", reuse=True)
    assert plan(defaults=TUNED, budget=56, steps=4) == TUNED.tuned[0].plan  # which the sampler divides over 4


def test_a_number_of_steps_without_a_budget_leaves_tuned_plans_aside() -> None:
    assert plan(defaults=TUNED, steps=6) == Plan(42, iterations=5)


def test_a_scheduler_of_the_users_goes_before_what_was_tuned() -> None:
    assert plan(defaults=TUNED, budget=56, scheduler=DDPMScheduler.from_config(OURS.config)).sampler == "ddpm"
    other = UniPCMultistepScheduler.from_config(OURS.config)
    assert plan(defaults=TUNED, budget=56, scheduler=other) == Plan(56, 2, reuse=False)


@pytest.mark.parametrize("steps", [2.5, "10", -1, 1001])
def test_a_wrong_number_of_steps_is_named(steps: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"num_inference_steps is {steps!r}; expected an integer")):
        plan(steps=steps)


def test_arguments_of_other_pipelines_are_told_what_stands_for_them() -> None:
    instead = {"guidance": "guidance_scale", "prompt": "class_labels", "num_images_per_prompt": "num_images"}
    for name, says in {**instead, "eta": 'sampler="ddpm"', "latents": "a generator"}.items():
        with pytest.raises(TypeError, match=f"there is no argument '{name}'; expected {says}"):
            plan(**{name: 1})
