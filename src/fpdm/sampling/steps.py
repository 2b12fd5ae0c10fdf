"""One sampling step each, from timestep t to any cleaner timestep u (-1: the clean image).

t and u may differ from sample to sample. What a step must remember goes in and comes out as `memory` (None at first).
DDIM and DDPM are ours because diffusers' own step to `t - 1000 // steps`, whatever the list of timesteps says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from fpdm.diffusion.schedule import Schedule, log_variance, posterior


@dataclass(frozen=True)
class Denoised:
    """What is known at a timestep.

    Attributes:
        x: The noisy images, (B, C, H, W).
        x0: The predicted clean images, (B, C, H, W).
        eps: The noise that goes with them, x = a x0 + s eps, (B, C, H, W).
        variance: The raw variance channels, (B, C, H, W), or None.
        clip: Estimates of x0 are held to [-clip, clip]; None leaves them free.
    """

    x: Tensor
    x0: Tensor
    eps: Tensor
    variance: Tensor | None = None
    clip: float | None = None

    @classmethod
    def from_v(
        cls,
        schedule: Schedule,
        x: Tensor,
        v: Tensor,
        t: Tensor,
        *,
        variance: Tensor | None = None,
        clip: float | None = None,
    ) -> Denoised:
        """From a prediction of v at `t` (B,), with x0 clipped to [-clip, clip] if asked for, and eps made to fit."""
        x0 = schedule.x0_from_v(x, v, t)  # (B, C, H, W)
        if clip is None:
            return cls(x, x0, schedule.eps_from_v(x, v, t), variance)
        return cls.from_x0(schedule, x, x0, t, variance=variance, clip=clip)

    @classmethod
    def from_x0(
        cls, schedule: Schedule, x: Tensor, x0: Tensor, t: Tensor, *, variance: Tensor | None, clip: float | None
    ) -> Denoised:
        """From an estimate of x0 at `t` (B,), clipped if asked for, with the eps that fits it."""
        x0 = x0 if clip is None else x0.clamp(-clip, clip)  # (B, C, H, W)
        a, s = schedule.signal(t, x.dtype)
        return cls(x, x0, (x - a * x0) / s, variance, clip)


class Stepped(NamedTuple):
    """The images at the next timestep, (B, C, H, W), and what to remember."""

    x: Tensor
    memory: Any


class Step(Protocol):
    """What every step is: a function of its arguments."""

    def __call__(
        self, schedule: Schedule, now: Denoised, t: Tensor, u: Tensor, *, noise: Callable[[], Tensor], memory: Any
    ) -> Stepped:
        """From timesteps `t` (B,) to `u` (B,). `noise()` gives fresh noise (B, C, H, W) to a step that wants it."""
        ...


def ddim(
    schedule: Schedule, now: Denoised, t: Tensor, u: Tensor, *, noise: Callable[[], Tensor], memory: Any = None
) -> Stepped:
    """DDIM without noise: x_u = a_u x0 + s_u eps (Song et al. 2021)."""
    a, s = schedule.signal(u, now.x.dtype)
    return Stepped(a * now.x0 + s * now.eps, None)


class History(NamedTuple):
    """The last estimate x0, (B, C, H, W), and the last step's angle phi_t - phi_u, (B, 1, 1, 1)."""

    x0: Tensor
    angle: Tensor


def second_order(
    schedule: Schedule,
    now: Denoised,
    t: Tensor,
    u: Tensor,
    *,
    noise: Callable[[], Tensor],
    memory: History | None = None,
) -> Stepped:
    """DDIM with x0 extrapolated to the middle of the step from its last two estimates, in the angle phi: second order.

    The first step, which has no past, is DDIM's.
    """
    angle = schedule.angle(t) - schedule.angle(u)  # (B, 1, 1, 1)
    after = History(now.x0, angle)
    if memory is None:
        return Stepped(ddim(schedule, now, t, u, noise=noise).x, after)
    reach = (angle / (2.0 * memory.angle)).to(now.x.dtype)  # (B, 1, 1, 1)
    x0 = now.x0 + reach * (now.x0 - memory.x0)  # (B, C, H, W)
    ahead = Denoised.from_x0(schedule, now.x, x0, t, variance=now.variance, clip=now.clip)
    return Stepped(ddim(schedule, ahead, t, u, noise=noise).x, after)


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling over any subset of the timesteps (Ho et al. 2020; Nichol and Dhariwal 2021).

    Attributes:
        variance: "small" (betatilde), "large" (beta), or "learned", which interpolates their logarithms by the
            network's variance channels.

    Raises:
        ValueError: An unknown variance.
    """

    variance: str = "small"

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large", "learned"):
            raise ValueError(f"variance is {self.variance!r}; expected small, large or learned")

    def __call__(
        self,
        schedule: Schedule,
        now: Denoised,
        t: Tensor,
        u: Tensor,
        *,
        noise: Callable[[], Tensor],
        memory: None = None,
    ) -> Stepped:
        """One step; the one to the clean image adds no noise.

        Raises:
            ValueError: A learned variance is wanted of a model that learns none.
        """
        q = posterior(schedule, t, u)
        mean = q.from_x0.to(now.x.dtype) * now.x0 + q.from_x.to(now.x.dtype) * now.x  # (B, C, H, W)
        last = (u < 0).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        if self.variance == "learned":
            if now.variance is None:
                raise ValueError(
                    "a learned variance is wanted, but this model learns none; use variance small or large"
                )
            # betatilde is 0 on the last step; any finite floor will do, since no noise is added there.
            floor = torch.where(last, q.beta.log(), -torch.inf)  # (B, 1, 1, 1)
            sigma = torch.exp(0.5 * log_variance(now.variance, q, floor))  # (B, C, H, W)
        else:
            sigma = (q.variance if self.variance == "small" else q.beta).sqrt().to(now.x.dtype)  # (B, 1, 1, 1)
        return Stepped(torch.where(last, mean, mean + sigma * noise()), None)  # (B, C, H, W)


class DiffusersStep:
    """A multistep scheduler of diffusers over any list of timesteps; its past is the memory.

    Zero terminal SNR survives in DPM-Solver++ and UniPC; others drop it in silence, so only these two are taken.

    Args:
        name: "dpmsolver++" (2M) or "unipc".
        schedule: The noise schedule.
        timesteps: The grid, noisiest first.

    Raises:
        ValueError: Another scheduler.
    """

    KINDS: dict[str, type[DPMSolverMultistepScheduler] | type[UniPCMultistepScheduler]] = {  # noqa: RUF012
        "dpmsolver++": DPMSolverMultistepScheduler,
        "unipc": UniPCMultistepScheduler,
    }

    def __init__(self, name: str, schedule: Schedule, timesteps: Sequence[int]) -> None:
        if name not in self.KINDS:
            raise ValueError(f"there is no scheduler {name!r} here; expected one of {sorted(self.KINDS)}")
        # Every value is passed, since a default may differ between classes and versions.
        scheduler = self.KINDS[name](
            **{**schedule.scheduler_config(), "prediction_type": "v_prediction"},  # what it is given below
            solver_order=2,
            final_sigmas_type="zero",
            thresholding=False,
            lower_order_final=True,
        )
        scheduler.set_timesteps(len(timesteps))
        # Their own grid rounds otherwise than ours, and UniPC takes no list; both read these two.
        grid = torch.tensor(list(timesteps))  # (S,)
        abar = scheduler.alphas_cumprod[grid].double()  # (S,): at T they put 2^-24 for 0
        scheduler.timesteps = grid
        scheduler.sigmas = torch.cat(
            [((1.0 - abar) / abar).sqrt(), torch.zeros(1, dtype=abar.dtype)]
        ).float()  # (S + 1,)
        scheduler.num_inference_steps = len(timesteps)
        self._fresh = scheduler

    def __call__(
        self,
        schedule: Schedule,
        now: Denoised,
        t: Tensor,
        u: Tensor,
        *,
        noise: Callable[[], Tensor],
        memory: Any = None,
    ) -> Stepped:
        """One step; all samples must be at the same timestep."""
        scheduler = _with_own_history(self._fresh if memory is None else memory)
        a, s = schedule.signal(t, now.x.dtype)
        v = a * now.eps - s * now.x0  # (B, C, H, W), that of the clipped x0 if it was clipped
        return Stepped(scheduler.step(v, t[0], now.x, return_dict=False)[0], scheduler)


def _with_own_history(scheduler: Any) -> Any:
    """A copy that can take a step without changing the original: all that a step changes in place are lists."""
    own = copy.copy(scheduler)
    for name, value in vars(own).items():
        if isinstance(value, list):
            setattr(own, name, list(value))
    return own


STEPS = ("ddim", "ddpm", "second-order", *DiffusersStep.KINDS)
"""The names that `make_step` knows."""


def make_step(name: str, schedule: Schedule, timesteps: Sequence[int], *, learned_variance: bool = False) -> Step:
    """The step with this name.

    Args:
        name: One of `STEPS`.
        schedule: The noise schedule.
        timesteps: The grid.
        learned_variance: Whether "ddpm" has a learned variance to use; else it takes betatilde.

    Raises:
        ValueError: An unknown name.
    """
    if name == "ddim":
        return ddim
    if name == "second-order":
        return second_order
    if name == "ddpm":
        return DDPM("learned" if learned_variance else "small")
    if name in DiffusersStep.KINDS:
        return DiffusersStep(name, schedule, timesteps)
    raise ValueError(f"there is no sampler {name!r}; expected one of {', '.join(STEPS)}")
