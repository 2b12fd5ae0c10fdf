"""Sampling steps from timestep t to any cleaner timestep u, where -1 is the clean image.

t and u may differ between samples. State is passed in and returned as `memory`, None at first. DDIM and DDPM are
implemented here because those of diffusers step to `t - 1000 // steps` and ignore the list of timesteps.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule, log_variance, posterior


@dataclass(frozen=True)
class Denoised:
    """Noisy images and the network's estimates at one timestep.

    Attributes:
        x: Noisy images, (B, C, H, W).
        x0: Predicted clean images, (B, C, H, W).
        eps: Noise consistent with them, x = a x0 + s eps, (B, C, H, W).
        variance: Raw variance channels, (B, C, H, W), or None.
        clip: Bound on estimates of x0, which are clipped to [-clip, clip]; None for no bound.
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
        """Compute the estimates from a prediction of v at `t` (B,), with x0 clipped to [-clip, clip] if given."""
        x0 = schedule.x0_from_v(x, v, t)  # (B, C, H, W)
        if clip is None:
            return cls(x, x0, schedule.eps_from_v(x, v, t), variance)
        return cls.from_x0(schedule, x, x0, t, variance=variance, clip=clip)

    @classmethod
    def from_x0(
        cls, schedule: Schedule, x: Tensor, x0: Tensor, t: Tensor, *, variance: Tensor | None, clip: float | None
    ) -> Denoised:
        """Compute the estimates from x0 at `t` (B,), clipped to [-clip, clip] if given."""
        x0 = x0 if clip is None else x0.clamp(-clip, clip)  # (B, C, H, W)
        a, s = schedule.signal(t, x.dtype)
        return cls(x, x0, (x - a * x0) / s, variance, clip)

    def rows(self, rows: Sequence[int]) -> Denoised:
        """Return those of some samples."""
        variance = None if self.variance is None else self.variance[rows]  # (A, C, H, W)
        return Denoised(self.x[rows], self.x0[rows], self.eps[rows], variance, self.clip)


class Stepped(NamedTuple):
    """Images at the next timestep, (B, C, H, W), and the memory for the next step."""

    x: Tensor
    memory: Any


class Step(Protocol):
    """Interface of a sampling step, a pure function of its arguments."""

    def __call__(
        self, schedule: Schedule, now: Denoised, t: Tensor, u: Tensor, *, noise: Callable[[], Tensor], memory: Any
    ) -> Stepped:
        """Step from timesteps `t` (B,) to `u` (B,). `noise()` returns fresh noise (B, C, H, W)."""
        ...


def ddim(
    schedule: Schedule, now: Denoised, t: Tensor, u: Tensor, *, noise: Callable[[], Tensor], memory: Any = None
) -> Stepped:
    """Step by DDIM without noise: x_u = a_u x0 + s_u eps (Song et al. 2021)."""
    a, s = schedule.signal(u, now.x.dtype)
    return Stepped(a * now.x0 + s * now.eps, None)


class History(NamedTuple):
    """The previous step's estimate of x0, (B, C, H, W), and its angle phi_t - phi_u, (B, 1, 1, 1)."""

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
    """Step by DDIM with x0 extrapolated to the middle of the step, in the angle phi: second order.

    The extrapolation uses the last two estimates of x0; the first step is plain DDIM.
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
        variance: "small" (betatilde), "large" (beta), or "learned", which interpolates between their logarithms with
            the network's variance channels.

    Raises:
        ValueError: The variance is unknown.
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
        """Step from `t` to `u`; the step to the clean image adds no noise.

        Raises:
            ValueError: `variance` is "learned", but the model has no variance channels.
        """
        q = posterior(schedule, t, u)
        mean = q.from_x0.to(now.x.dtype) * now.x0 + q.from_x.to(now.x.dtype) * now.x  # (B, C, H, W)
        last = (u < 0).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        if self.variance == "learned":
            if now.variance is None:
                raise ValueError(
                    "variance is 'learned', but this model does not learn its variance; expected 'small' or 'large'"
                )
            # betatilde is 0 on the last step; any finite floor will do, because no noise is added there.
            floor = torch.where(last, q.beta.log(), -torch.inf)  # (B, 1, 1, 1)
            sigma = torch.exp(0.5 * log_variance(now.variance, q, floor))  # (B, C, H, W)
        else:
            sigma = (q.variance if self.variance == "small" else q.beta).sqrt().to(now.x.dtype)  # (B, 1, 1, 1)
        return Stepped(torch.where(last, mean, mean + sigma * noise()), None)  # (B, C, H, W)


class SchedulerMemory(NamedTuple):
    """A scheduler of diffusers with the history of its steps, and the position of the next timestep."""

    scheduler: Any
    position: int


class DiffusersStep:
    """Step of a scheduler of diffusers over its own timesteps. Its memory is a copy of the scheduler.

    The images between two steps are a x0 + s eps, also where the scheduler scales its own by the noise level. What is
    random in the step of a sample is a function of the noise of that sample alone.

    Args:
        scheduler: The scheduler, whose timesteps are set.
    """

    KINDS: Mapping[str, str] = MappingProxyType(
        {"dpmsolver++": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler"}
    )

    def __init__(self, scheduler: Any) -> None:
        self._fresh = scheduler
        self._draws = "generator" in inspect.signature(scheduler.step).parameters

    @classmethod
    def multistep(cls, name: str, schedule: Schedule, timesteps: Sequence[int]) -> DiffusersStep:
        """Create the step of a multistep scheduler over any timestep grid.

        Args:
            name: "dpmsolver++" (2M) or "unipc".
            schedule: Noise schedule.
            timesteps: Timestep grid, noisiest first.

        Raises:
            ValueError: `name` is another scheduler.
        """
        if name not in cls.KINDS:
            raise ValueError(f"the scheduler is {name!r}; expected one of {sorted(cls.KINDS)}")
        import diffusers  # here, because these schedulers import SciPy's statistics, which take a second

        # Every value is given, because defaults differ between classes and versions.
        scheduler = getattr(diffusers, cls.KINDS[name])(
            **{**schedule.scheduler_config(), "prediction_type": "v_prediction"},  # `__call__` passes v
            solver_order=2,
            final_sigmas_type="zero",
            thresholding=False,
            lower_order_final=True,
        )
        scheduler.set_timesteps(len(timesteps))
        # Their own grid rounds differently, and UniPC accepts no list; both schedulers read these two attributes.
        grid = torch.tensor(list(timesteps))  # (S,)
        abar = scheduler.alphas_cumprod[grid].double()  # (S,): at T diffusers replaces 0 by 2^-24
        scheduler.timesteps = grid
        scheduler.sigmas = torch.cat(
            [((1.0 - abar) / abar).sqrt(), torch.zeros(1, dtype=abar.dtype)]
        ).float()  # (S + 1,)
        scheduler.num_inference_steps = len(timesteps)
        return cls(scheduler)

    def __call__(
        self,
        schedule: Schedule,
        now: Denoised,
        t: Tensor,
        u: Tensor,
        *,
        noise: Callable[[], Tensor],
        memory: SchedulerMemory | None = None,
    ) -> Stepped:
        """Step from `t` to the next of the scheduler's timesteps; all samples must be at the same timestep."""
        before, position = memory or SchedulerMemory(self._fresh, 0)
        scheduler = _with_own_history(before)
        timesteps = scheduler.timesteps
        scale = scheduler.scale_model_input(torch.ones((), dtype=now.x.dtype), timesteps[position])  # (): 1 for most
        drawn = {"generator": _Generators(noise, len(now.x))} if self._draws else {}
        output = _in_terms_of(scheduler.config.prediction_type, schedule, now, t)  # (B, C, H, W)
        x = scheduler.step(output, timesteps[position], now.x / scale, **drawn, return_dict=False)[0]  # (B, C, H, W)
        if position + 1 < len(timesteps):
            x = scheduler.scale_model_input(x, timesteps[position + 1])  # (B, C, H, W)
        return Stepped(x, SchedulerMemory(scheduler, position + 1))


def _in_terms_of(prediction_type: str, schedule: Schedule, now: Denoised, t: Tensor) -> Tensor:
    """Express the estimates, which are of the clipped x0 if it was clipped, as a scheduler expects them."""
    if prediction_type == "epsilon":
        return now.eps
    if prediction_type == "sample":
        return now.x0
    a, s = schedule.signal(t, now.x.dtype)
    return a * now.eps - s * now.x0  # (B, C, H, W)


class _Generators(list[torch.Generator]):
    """Generators of the samples, seeded by the noise of each when a scheduler first asks for one; most never do."""

    def __init__(self, noise: Callable[[], Tensor], count: int) -> None:
        super().__init__([torch.default_generator] * count)
        self._noise: Callable[[], Tensor] | None = noise

    def __getitem__(self, index: Any) -> Any:
        if self._noise is not None:
            bits = self._noise().flatten(1)[:, 0].cpu().double().view(torch.int64).tolist()  # (B,)
            self[:] = [torch.Generator().manual_seed(seed) for seed in bits]
            self._noise = None
        return super().__getitem__(index)


def _with_own_history(scheduler: Any) -> Any:
    """Copy a scheduler so that a step of the copy does not change the original; a step changes only lists in place."""
    own = copy.copy(scheduler)
    for name, value in vars(own).items():
        if isinstance(value, list):
            setattr(own, name, list(value))
    return own


STEPS = ("ddim", "ddpm", "second-order", *DiffusersStep.KINDS)
"""Names that `make_step` accepts."""


def make_step(name: str, schedule: Schedule, timesteps: Sequence[int], *, learned_variance: bool = False) -> Step:
    """Create the step with this name.

    Args:
        name: One of `STEPS`.
        schedule: Noise schedule.
        timesteps: Timestep grid.
        learned_variance: Use the network's learned variance in "ddpm"; otherwise it is betatilde.

    Raises:
        ValueError: The name is unknown.
    """
    if name == "ddim":
        return ddim
    if name == "second-order":
        return second_order
    if name == "ddpm":
        return DDPM("learned" if learned_variance else "small")
    if name in DiffusersStep.KINDS:
        return DiffusersStep.multistep(name, schedule, timesteps)
    raise ValueError(f"the sampler is {name!r}; expected one of {', '.join(STEPS)}")
