"""The sampling plan that the arguments of a pipeline's call and its scheduler describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from torch import Tensor

from fpdm.configuration import Number, check
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import did_you_mean
from fpdm.models.cost import ModelCost
from fpdm.sampling.defaults import ChosenPlan, SamplingDefaults
from fpdm.sampling.plan import Plan
from fpdm.sampling.schedulers import OWN_SAMPLERS, check_scheduler, with_steps
from fpdm.sampling.self_guidance import WeakAnswers
from fpdm.sampling.timesteps import GRIDS, grid

_INSTEAD = {
    "guidance": "guidance_scale",
    "prompt": "class_labels: names of classes, see pipe.labels",
    "negative_prompt": "guidance_scale alone: a class has no opposite",
    "num_images_per_prompt": "num_images, or a longer list of class_labels",
    "eta": 'sampler="ddpm", which is eta = 1, or a scheduler by pipe.scheduler = ...',
    "latents": "a generator, or seed and indices, which decide on the noise",
    "height": "none: the images have the size that the model was trained on",
    "width": "none: the images have the size that the model was trained on",
    "callback": "callback_on_step_end",
}
"""What to give in place of arguments that other pipelines of diffusers have."""
_OTHERS = ("class_labels", "guidance_scale", "generator", "num_inference_steps", "num_images", "output_type")


def choose_plan(
    given: Mapping[str, Any],
    guidance_scale: float | None,
    steps: int | None,
    *,
    scheduler: Any,
    schedule: Schedule,
    cost: ModelCost,
    defaults: SamplingDefaults,
) -> ChosenPlan:
    """Return the plan of a call, and where it comes from.

    Args:
        given: Fields of the plan that the user gives; None stands for one that is left out.
        guidance_scale: Scale of guidance, which is off up to 1, as in diffusers.
        steps: Number of steps, if the user gives one.
        scheduler: The pipeline's scheduler.
        schedule: Noise schedule of the network.
        cost: Cost of the network.
        defaults: What holds for everything else. Without a budget, a number of steps leaves tuned plans aside.

    Raises:
        TypeError: A plan has no such field.
        ValueError: A value is out of range, values contradict each other, or the scheduler does not fit.
    """
    known = {one.name for one in fields(Plan)} - {"guidance"}
    for name in given:
        if name not in known:
            instead = f"; expected {_INSTEAD[name]}" if name in _INSTEAD else did_you_mean(name, {*known, *_OTHERS})
            raise TypeError(f"there is no argument {name!r}{instead}")
    if guidance_scale is not None:
        check("guidance_scale", guidance_scale, Number)
    if steps is not None:
        check("num_inference_steps", steps, Annotated[int, Ge(1), Le(schedule.num_timesteps)])
    check_scheduler(scheduler, schedule)
    is_ours = type(scheduler).__name__ in OWN_SAMPLERS
    # Another scheduler makes the steps itself, whatever sampler and grid were tuned.
    values: dict[str, Any] = _decided_by(scheduler) if is_ours else {"sampler": Plan.sampler, "grid": Plan.grid}
    values |= {name: value for name, value in given.items() if value is not None}
    if guidance_scale is not None:
        values["guidance"] = 1.0 if guidance_scale <= 1.0 else guidance_scale
    if steps is not None and "budget" not in values:
        plan = replace(defaults.plan, **values).with_iterations(cost)
        if is_ours:
            timesteps = grid(schedule, steps, plan.grid)
        else:
            timesteps = with_steps(scheduler, schedule, steps).timesteps.tolist()
        weak, each = WeakAnswers.of(plan, cost), cost.passes(plan.iterations or cost.middle.iterations.start)
        return ChosenPlan(replace(plan, budget=len(timesteps) * each + (weak.passes(timesteps) if weak else 0)))
    if steps is not None and "iterations" in values:
        raise ValueError("budget, iterations and num_inference_steps are all given; two say what the third is")
    return defaults.complete(values, cost, schedule.num_timesteps)


def plain(value: Any) -> Any:
    """Return a number of NumPy or PyTorch as one of Python's, and anything else as it is."""
    return value.item() if isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0 else value


def _decided_by(scheduler: Any) -> dict[str, Any]:
    """Return the fields of a plan that a scheduler decides which stands for one of our samplers.

    Raises:
        ValueError: It begins below the noisiest timestep.
    """
    kind, spacing = type(scheduler).__name__, scheduler.config["timestep_spacing"]
    if spacing not in GRIDS:
        raise ValueError(
            f"{kind} has timestep_spacing {spacing!r}, which leaves out pure noise; expected {' or '.join(GRIDS)}"
        )
    decided = {"sampler": OWN_SAMPLERS[kind], "grid": spacing}
    return {key: value for key, value in decided.items() if value != getattr(Plan, key)}  # the defaults decide nothing
