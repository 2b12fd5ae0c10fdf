"""The sampling loop, as a generator that yields a state after every step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
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
    """State of sampling after a step.

    Attributes:
        index: Index of the step just made, from 0.
        steps: Total number of steps.
        timestep: Timestep at which the network was evaluated.
        x: Images at the next timestep, (B, C, H, W); after the last step, the samples.
        x0: Clean images predicted in this step, (B, C, H, W), useful as a preview.
        solution: Solution of the middle; with guidance, of both halves, (2B, T, D).
        spent: Iterations so far, an int or one number per sample, (B,), with guidance (2B,).
    """

    index: int
    steps: int
    timestep: float
    x: Tensor
    x0: Tensor
    solution: Solution
    spent: int | Tensor

    @property
    def iterations(self) -> Tensor:
        """Iterations so far of each sample, (B,) float64; with guidance, the mean of its two evaluations."""
        each = torch.as_tensor(self.spent, dtype=torch.float64, device="cpu")  # (), (B,) or (2B,)
        count = len(self.x)
        return each.reshape(-1, count if each.ndim else 1).mean(0).expand(count)


def sample(
    denoiser: Denoiser,
    x: Tensor,
    y: Tensor | None = None,
    *,
    schedule: Schedule,
    timesteps: Sequence[float],
    step: Step,
    budget: Budget,
    allocation: Allocation,
    clip: float | None,
    noise: Callable[[int], Tensor] | None = None,
    reuse: bool = False,
    solver: Solver | None = None,
    measure: bool = False,
) -> Generator[SampleState, Tensor | None, None]:
    """Denoise pure noise step by step and yield the state after every step; the last one holds the samples.

    Images (B, C, H, W) that are sent to the generator replace those of the state that it yielded last.

    Args:
        denoiser: Network that predicts v.
        x: Pure noise, (B, C, H, W).
        y: Labels, (B,), or None.
        schedule: Noise schedule.
        timesteps: Timestep grid, noisiest first (see `timesteps.py`).
        step: Update from one timestep to the next (see `steps.py`).
        budget: Block passes to spend.
        allocation: How to divide them over the timesteps.
        clip: Clip the predicted x0 to [-clip, clip]: 1.0 for pixels in [-1, 1], None for latents.
        noise: Function that returns the fresh noise (B, C, H, W) of step k, for steps that need it (DDPM).
        reuse: Start each solve from the previous timestep's solution (paper Sec. 3.3).
        solver: Fixed-point solver; plain iteration by default.
        measure: Report the residual of each step in `solution`.

    Raises:
        ValueError: The budget is too small for the steps, or a step needs noise and `noise` is None.
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
        changed = yield SampleState(index, len(timesteps), t, x, known.x0, prediction.solution, spent)
        x = x if changed is None else changed  # (B, C, H, W)


def _noise(noise: Callable[[int], Tensor] | None, index: int) -> Tensor:
    if noise is None:
        raise ValueError(
            "noise is None, but this step adds noise; expected a function from the index of a step to its noise"
        )
    return noise(index)
