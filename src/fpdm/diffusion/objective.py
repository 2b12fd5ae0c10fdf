"""The training objective: mean squared error on v or eps, weighted by name, and the learned variance's VLB term."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule, log_variance, posterior


@dataclass(frozen=True)
class Loss:
    """Losses per sample, in float32.

    Attributes:
        total: What is minimised: weight * mse + vlb, (B,).
        mse: The unweighted mean squared error on what is predicted, (B,).
        vlb: The variance's term in bits per dimension, (B,), or None where no variance is learned.
    """

    total: Tensor
    mse: Tensor
    vlb: Tensor | None


@dataclass(frozen=True)
class Objective:
    """The MSE on v with a weighting, or on eps as DiT has it, and the VLB term where the model learns its variance.

    Attributes:
        weighting: "uniform" (every timestep's v counts alike, or eps, which has no other), "min_snr" (min(SNR, gamma) /
            (SNR + 1), Hang et al. 2023, with a floor, since it is 0 at T) or "authors" (what the FPDM authors' code
            does, abar sqrt(1 - abar): it trains the noisiest steps next to nothing and T not at all; for comparison).
        gamma: Of min-SNR.
        floor: The least weight of min-SNR.

    Raises:
        ValueError: An unknown weighting, or a number outside its range.
    """

    weighting: str = "uniform"
    gamma: float = 5.0
    floor: float = 0.05

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting is {self.weighting!r}; expected one of {sorted(WEIGHTINGS)}")
        if not 0.0 < self.gamma < math.inf or not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"gamma {self.gamma} and floor {self.floor}; expected gamma > 0 and 0 <= floor <= 1")

    def check(self, schedule: Schedule) -> None:
        """Check that there is such a loss on what is predicted under this schedule.

        Raises:
            ValueError: A weighting of v for a network that predicts eps.
        """
        if schedule.prediction != "v" and self.weighting != "uniform":
            raise ValueError(
                f"weighting {self.weighting!r} is one of the loss on v; for the prediction {schedule.prediction!r} "
                "expected 'uniform', DiT's"
            )

    def loss(
        self, schedule: Schedule, value: Tensor, variance: Tensor | None, x: Tensor, x0: Tensor, eps: Tensor, t: Tensor
    ) -> Loss:
        """The loss of a prediction at `x` = a `x0` + s `eps`.

        Args:
            schedule: The noise schedule.
            value: The predicted v or eps, (B, C, H, W).
            variance: The raw variance channels, (B, C, H, W), or None.
            x: The noisy images, (B, C, H, W).
            x0: The clean images, (B, C, H, W).
            eps: The noise, (B, C, H, W).
            t: Timesteps, (B,).

        Raises:
            ValueError: As `check`.
        """
        self.check(schedule)
        value = value.float()  # (B, C, H, W)
        mse = (value - schedule.target(x0, eps, t)).square().flatten(1).mean(1)  # (B,)
        total = WEIGHTINGS[self.weighting](self, schedule.alpha_bar(t).flatten()).float() * mse  # (B,)
        if variance is None:
            return Loss(total, mse, None)
        v = schedule.as_v(x, value.detach(), t)  # (B, C, H, W): the mean is not trained by this term
        x0_hat = schedule.x0_from_v(x, v, t)  # (B, C, H, W)
        vlb = variational_bound(schedule, x0_hat, variance.float(), x, x0, t)  # (B,)
        return Loss(total + vlb, mse, vlb)


WEIGHTINGS: dict[str, Callable[[Objective, Tensor], Tensor]] = {
    "uniform": lambda o, abar: torch.ones_like(abar),
    # min(SNR, g) / (SNR + 1) with SNR = abar / (1 - abar), multiplied out so that nothing is divided by 0.
    "min_snr": lambda o, abar: torch.minimum(abar, o.gamma * (1.0 - abar)).clamp_min(o.floor),
    "authors": lambda o, abar: abar * (1.0 - abar).sqrt(),
}
"""The weight of the v-MSE by name, from the objective and abar (B,) float64, to (B,)."""


def variational_bound(schedule: Schedule, x0_hat: Tensor, o: Tensor, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """The variational bound's term of each timestep, in bits per dimension (Nichol and Dhariwal 2021).

    For t > 0 it is KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)); for t = 0 the negative log-likelihood of x0 under the
    model's Gaussian, which on latents is continuous.

    Args:
        schedule: The noise schedule.
        x0_hat: The predicted clean images, (B, C, H, W).
        o: The raw variance channels, (B, C, H, W).
        x: The noisy images, (B, C, H, W).
        x0: The clean images, (B, C, H, W).
        t: Timesteps, (B,).

    Returns:
        (B,).
    """
    true = posterior(schedule, t, t - 1)
    one = torch.ones_like(t)  # (B,)
    floor = posterior(schedule, one, one - 1).variance.log()  # (B, 1, 1, 1): that of t = 1, for t = 0
    log_p = log_variance(o, true, floor)  # (B, C, H, W)
    gap = (true.from_x0.to(x.dtype) * (x0 - x0_hat)).square()  # (B, C, H, W): the two means differ in x0 alone
    log_q = torch.maximum(true.variance.log(), floor).to(x.dtype)  # (B, 1, 1, 1)
    kl = 0.5 * (log_p - log_q - 1.0 + torch.exp(log_q - log_p) + gap * torch.exp(-log_p))  # (B, C, H, W)
    nll = 0.5 * (math.log(2.0 * math.pi) + log_p + gap * torch.exp(-log_p))  # (B, C, H, W)
    nats = torch.where((t == 0).view(-1, 1, 1, 1), nll, kl)  # (B, C, H, W)
    return nats.flatten(1).mean(1) / math.log(2.0)  # (B,)
