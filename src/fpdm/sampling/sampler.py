"""The sampler: a generator that denoises step by step and yields a state after each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.solve import Solution, Solver, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.sampling.allocation import Allocation
from fpdm.sampling.budget import Budget
from fpdm.sampling.guidance import Denoiser
from fpdm.sampling.steps import Denoised, Step


@dataclass(frozen=True)
class SampleState:
    """Where sampling stands after a step.

    Attributes:
        index: The step just made, counted from 0.
        steps: How many there are.
        timestep: The timestep that it left.
        x: The images at the next timestep, (B, C, H, W); after the last step, the sample.
        x0: The clean images as predicted in this step, (B, C, H, W): a preview.
        solution: The middle's solution; with guidance (2B, T, D), both halves.
        spent: Iterations so far, an int or one per sample, (B,), with guidance (2B,).
    """

    index: int
    steps: int
    timestep: int
    x: Tensor
    x0: Tensor
    solution: Solution
    spent: int | Tensor


def sample(
    denoiser: Denoiser,
    x: Tensor,
    y: Tensor | None = None,
    *,
    schedule: Schedule,
    timesteps: Sequence[int],
    step: Step,
    budget: Budget,
    allocation: Allocation,
    clip: float | None,
    noise: Callable[[int], Tensor] | None = None,
    reuse: bool = False,
    solver: Solver | None = None,
    measure: bool = False,
) -> Iterator[SampleState]:
    """Denoise pure noise, yielding a state after every step; a caller that wants only the images takes the last.

    Args:
        denoiser: Predicts v.
        x: Pure noise, (B, C, H, W).
        y: Labels, (B,), or None.
        schedule: The noise schedule.
        timesteps: The grid, noisiest first, from `timesteps.py`.
        step: From `steps.py`.
        budget: Block passes to spend.
        allocation: How to share them out over the timesteps.
        clip: Clip the predicted x0 to [-clip, clip]: 1.0 for pixels in [-1, 1], None for latents.
        noise: Gives the fresh noise (B, C, H, W) of step k to steps that want it (DDPM).
        reuse: Start each solve from the last timestep's solution (paper Sec. 3.3).
        solver: Of the fixed points; plain iteration by default.
        measure: Report each step's residual, in `solution`.

    Raises:
        ValueError: The budget is too small for the steps, or a step wants noise and none is given.
    """
    state, solver = allocation.init(budget, len(timesteps)), solver or Picard()
    memory, z0, spent = None, None, 0
    for index, t in enumerate(timesteps):
        u = timesteps[index + 1] if index + 1 < len(timesteps) else -1
        now, after = (torch.full((len(x),), at, device=x.device) for at in (t, u))  # (B,) each
        stop = allocation.next(state)
        bound = functools.partial(solve, solver=solver, stop=replace(stop, measure=measure))
        with torch.no_grad():
            prediction = denoiser(x, now, y, solver=bound, z0=z0)
            known = Denoised.from_v(schedule, x, prediction.value, now, variance=prediction.variance, clip=clip)
            fresh = functools.partial(_noise, noise, index)
            x, memory = step(schedule, known, now, after, noise=fresh, memory=memory)  # (B, C, H, W)
        state = allocation.update(state, prediction.solution)
        spent = spent + prediction.solution.iters
        z0 = prediction.solution.z if reuse else None  # (B, T, D)
        yield SampleState(index, len(timesteps), t, x, known.x0, prediction.solution, spent)


def _noise(noise: Callable[[int], Tensor] | None, index: int) -> Tensor:
    if noise is None:
        raise ValueError(
            "this step adds noise, and sample() was given none; pass noise=, a function of the step's index"
        )
    return noise(index)
