"""The noise schedule, the prediction target, and the conversions between v, x0 and eps.

Notation: a = sqrt(abar_t), s = sqrt(1 - abar_t), x_t = a x0 + s eps, v = a eps - s x0 (Salimans and Ho 2022).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt

from fpdm.configuration import Number, configuration

if TYPE_CHECKING:  # a schedule is part of every recipe, and a recipe is read without PyTorch
    import torch
    from torch import Tensor


class Signal(NamedTuple):
    """Signal level a and noise level s at some timesteps, each (B, 1, 1, 1)."""

    a: Tensor
    s: Tensor


@configuration
class Schedule:
    """Linear betas, rescaled so that the last timestep is pure noise (Lin et al. 2023; paper Sec. 4.1).

    Timesteps run from 0, the cleanest, to T = `num_timesteps` - 1. Every method also accepts timestep -1, the clean
    image. Tables are float64 (float32 on MPS, which has no wider type); conversions return the dtype of their input.

    Attributes:
        num_timesteps: Number of timesteps.
        beta_start: The first beta.
        beta_end: The last beta before rescaling.
        zero_terminal_snr: Rescale the schedule so that abar_T = 0.
        prediction: What the network predicts, "v" or, as DiT does, "epsilon". Epsilon is not possible at zero terminal
            SNR, where it says nothing about the image.

    Raises:
        ValueError: A field is outside its range, or `prediction` is "epsilon" at zero terminal SNR.
    """

    num_timesteps: Annotated[int, Ge(2), Le(10**6)] = 1000
    beta_start: Annotated[Number, Gt(0), Lt(1)] = 1e-4
    beta_end: Annotated[Number, Gt(0), Lt(1)] = 0.02
    zero_terminal_snr: bool = True
    prediction: Annotated[Literal["v", "epsilon"], "'v' or 'epsilon'"] = "v"

    def __post_init__(self) -> None:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start is {self.beta_start}; expected at most beta_end, {self.beta_end}")
        if self.prediction == "epsilon" and self.zero_terminal_snr:
            raise ValueError(
                "prediction is 'epsilon' at zero terminal SNR, where it says nothing about the image; expected 'v', or "
                "zero_terminal_snr=false"
            )

    @functools.cached_property
    def alphas_bar(self) -> Tensor:
        """Table of abar at timesteps -1, 0, ..., T: (num_timesteps + 1,) float64, from 1 down to 0."""
        import torch

        betas = torch.linspace(self.beta_start, self.beta_end, self.num_timesteps, dtype=torch.float64)  # (N,)
        r = (1.0 - betas).cumprod(0).sqrt()  # (N,)
        if self.zero_terminal_snr:
            r = (r - r[-1]) * r[0] / (r[0] - r[-1])  # (N,)
        return torch.cat([torch.ones(1, dtype=torch.float64), r**2])  # (N + 1,)

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Look up abar at timesteps `t` (B,), -1 included: (B, 1, 1, 1) float64."""
        return self._table(t.device)[t.long() + 1].view(-1, 1, 1, 1)  # (B, 1, 1, 1)

    def signal(self, t: Tensor, dtype: torch.dtype | None = None) -> Signal:
        """Look up a and s at timesteps `t` (B,), each (B, 1, 1, 1), in `dtype` or by default in that of the tables."""
        alpha_bar = self.alpha_bar(t)  # (B, 1, 1, 1)
        return Signal(
            alpha_bar.sqrt().to(dtype or alpha_bar.dtype), (1.0 - alpha_bar).sqrt().to(dtype or alpha_bar.dtype)
        )

    def angle(self, t: Tensor) -> Tensor:
        """Compute phi = atan2(s, a) at timesteps `t` (B,): (B, 1, 1, 1) float64, from 0 (clean) to pi / 2 (noise)."""
        a, s = self.signal(t)  # (B, 1, 1, 1)
        return s.atan2(a)  # (B, 1, 1, 1)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Compute the noisy image x_t = a x0 + s eps: (B, C, H, W) each, `t` (B,)."""
        a, s = self.signal(t, x0.dtype)
        return a * x0 + s * eps  # (B, C, H, W)

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Compute the velocity v = a eps - s x0: (B, C, H, W) each, `t` (B,)."""
        a, s = self.signal(t, x0.dtype)
        return a * eps - s * x0  # (B, C, H, W)

    def x0_from_v(self, x: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Compute the clean image x0 = a x_t - s v: (B, C, H, W) each, `t` (B,). Without division, even at T."""
        a, s = self.signal(t, x.dtype)
        return a * x - s * v  # (B, C, H, W)

    def eps_from_v(self, x: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Compute the noise eps = s x_t + a v: (B, C, H, W) each, `t` (B,)."""
        a, s = self.signal(t, x.dtype)
        return s * x + a * v  # (B, C, H, W)

    def v_from_eps(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Compute the velocity v = (eps - s x_t) / a: (B, C, H, W) each, `t` (B,). Undefined where a = 0."""
        a, s = self.signal(t, x.dtype)
        return (eps - s * x) / a  # (B, C, H, W)

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Compute the prediction target, v or eps: (B, C, H, W) each, `t` (B,)."""
        return self.velocity(x0, eps, t) if self.prediction == "v" else eps  # (B, C, H, W)

    def as_v(self, x: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """Convert a prediction at `x` to v: (B, C, H, W) each, `t` (B,)."""
        return prediction if self.prediction == "v" else self.v_from_eps(x, prediction, t)  # (B, C, H, W)

    def scheduler_config(self) -> dict[str, Any]:
        """Return this schedule as arguments of a diffusers scheduler.

        Every value is given, because the defaults differ between scheduler classes.
        """
        return {
            "num_train_timesteps": self.num_timesteps,
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
            "beta_schedule": "linear",
            "trained_betas": None,
            "prediction_type": "v_prediction" if self.prediction == "v" else "epsilon",
            "rescale_betas_zero_snr": self.zero_terminal_snr,
            "timestep_spacing": "trailing",
        }

    @classmethod
    def from_scheduler_config(cls, config: Mapping[str, Any]) -> Schedule:
        """Return the schedule of a diffusers scheduler, from its configuration.

        Raises:
            ValueError: The scheduler has a schedule of another kind.
        """
        kinds = {"v_prediction": "v", "epsilon": "epsilon"}
        if config.get("beta_schedule") != "linear" or config.get("trained_betas") is not None:
            raise ValueError(f"the scheduler has betas {config.get('beta_schedule')!r}; expected linear ones")
        if config.get("prediction_type") not in kinds:
            raise ValueError(
                f"the scheduler takes the prediction {config.get('prediction_type')!r}; expected {' or '.join(kinds)}"
            )
        return cls(
            num_timesteps=config["num_train_timesteps"],
            beta_start=config["beta_start"],
            beta_end=config["beta_end"],
            zero_terminal_snr=config.get("rescale_betas_zero_snr", False),
            prediction=kinds[config["prediction_type"]],  # type: ignore[arg-type]  # it is checked
        )

    def _table(self, device: torch.device) -> Tensor:
        if device not in self._tables:
            import torch

            # MPS has no float64; there the tables are float32.
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self._tables[device] = self.alphas_bar.to(device=device, dtype=dtype)  # (N + 1,)
        return self._tables[device]

    @functools.cached_property
    def _tables(self) -> dict[torch.device, Tensor]:
        return {}


class Posterior(NamedTuple):
    """The distribution q(x_u | x_t, x0) = N(from_x0 x0 + from_x x_t, variance) for any u cleaner than t.

    Each field is (B, 1, 1, 1) float64. `beta` = 1 - abar_t / abar_u is the variance of the forward step from u to t.
    """

    from_x0: Tensor
    from_x: Tensor
    variance: Tensor
    beta: Tensor


def posterior(schedule: Schedule, t: Tensor, u: Tensor) -> Posterior:
    """Compute the DDPM posterior from timesteps `t` (B,) to cleaner ones `u` (B,) or -1 (Ho et al. 2020, Eq. 7)."""
    abar_t, abar_u = schedule.alpha_bar(t), schedule.alpha_bar(u)  # (B, 1, 1, 1)
    beta = 1.0 - abar_t / abar_u  # (B, 1, 1, 1)
    return Posterior(
        from_x0=abar_u.sqrt() * beta / (1.0 - abar_t),
        from_x=(abar_t / abar_u).sqrt() * (1.0 - abar_u) / (1.0 - abar_t),
        variance=beta * (1.0 - abar_u) / (1.0 - abar_t),
        beta=beta,
    )


def log_variance(o: Tensor, now: Posterior, floor: Tensor) -> Tensor:
    """Compute the learned log variance log sigma^2 = f log beta + (1 - f) log betatilde with f = (o + 1) / 2 (DiT).

    Args:
        o: Raw variance channels of the network, (B, C, H, W).
        now: Posterior of the step.
        floor: Lower bound on log betatilde, (B, 1, 1, 1), which is -inf for the step to the clean image.

    Returns:
        (B, C, H, W) in the dtype of `o`.
    """
    low = now.variance.log().maximum(floor)  # (B, 1, 1, 1)
    f = (o + 1.0) / 2.0  # (B, C, H, W)
    return f * now.beta.log().to(o.dtype) + (1.0 - f) * low.to(o.dtype)  # (B, C, H, W)
