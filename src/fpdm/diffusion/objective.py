"""The training objective: weighted mean squared error on v or eps, and the variational bound of a learned variance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from fpdm.configuration import NonNegativeNumber, Number, PositiveNumber, configuration
from fpdm.diffusion.schedule import Schedule, log_variance, posterior

if TYPE_CHECKING:  # a recipe checks its objective, and a recipe is read without PyTorch
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """Losses per sample, in float32.

    Attributes:
        total: The loss to minimise, weight * mse + vlb, and the weighted mse of a weaker answer, (B,).
        mse: Unweighted mean squared error of the prediction, (B,).
        vlb: Variational bound of the learned variance in bits per dimension, (B,); None if no variance is learned.
    """

    total: Tensor
    mse: Tensor
    vlb: Tensor | None


Weighting = Literal["uniform", "min_snr", "authors"]


@configuration
class Objective:
    """Mean squared error on v or eps, plus the variational bound if the model learns its variance.

    Attributes:
        weighting: Weight of each timestep in the loss on v. "uniform" is 1 and the only choice for eps, as in DiT.
            "min_snr" is min(SNR, gamma) / (SNR + 1) (Hang et al. 2023), which is 0 at T, hence the floor. "authors" is
            abar sqrt(1 - abar), from the FPDM authors' code, for comparison: it hardly trains the noisiest timesteps,
            and T not at all.
        gamma: The cap on the SNR in "min_snr".
        floor: Smallest weight in "min_snr".
        weak: Weight of the loss of a weaker answer; 0 if none is trained.
        exit: Weight of the loss of an early exit; 0 if none is trained, or a weaker answer is.

    Raises:
        ValueError: The weighting is unknown, or a number is outside its range.
    """

    weighting: Weighting = "uniform"
    gamma: PositiveNumber = 5.0
    floor: Annotated[Number, Ge(0), Le(1)] = 0.05
    weak: NonNegativeNumber = 0.0
    exit: NonNegativeNumber = 0.0

    def check(self, schedule: Schedule) -> None:
        """Check that the weighting fits what the network predicts under this schedule.

        Raises:
            ValueError: The network predicts eps, but the weighting is for v.
        """
        if schedule.prediction != "v" and self.weighting != "uniform":
            raise ValueError(
                f"weighting is {self.weighting!r}, which is for the loss on v; expected 'uniform' for the prediction "
                f"{schedule.prediction!r}"
            )

    def loss(
        self,
        schedule: Schedule,
        value: Tensor,
        variance: Tensor | None,
        x: Tensor,
        x0: Tensor,
        eps: Tensor,
        t: Tensor,
        *,
        weak: Tensor | None = None,
        teacher: float = 0.0,
    ) -> Loss:
        """Compute the loss of a prediction at `x` = a `x0` + s `eps`.

        Args:
            schedule: Noise schedule.
            value: Predicted v or eps, (B, C, H, W).
            variance: Raw variance channels, (B, C, H, W), or None.
            x: Noisy images, (B, C, H, W).
            x0: Clean images, (B, C, H, W).
            eps: Noise, (B, C, H, W).
            t: Timesteps, (B,).
            weak: The v or eps of a weaker answer or an early exit, (B, C, H, W), if there is one.
            teacher: Share of the loss of `weak` in which `value` is its target instead of the truth.

        Raises:
            ValueError: The network predicts eps, but the weighting is for v.
        """
        self.check(schedule)
        value, target = value.float(), schedule.target(x0, eps, t)  # (B, C, H, W) each
        weight = WEIGHTINGS[self.weighting](self, schedule.alpha_bar(t).flatten()).float()  # (B,)
        mse = (value - target).square().flatten(1).mean(1)  # (B,)
        total = weight * mse  # (B,)
        if weak is not None:
            weak = weak.float()  # (B, C, H, W)
            error = (weak - target).square().flatten(1).mean(1)  # (B,)
            if teacher:
                error = error.lerp((weak - value.detach()).square().flatten(1).mean(1), teacher)  # (B,)
            total = total + (self.weak or self.exit) * weight * error  # (B,)
        if variance is None:
            return Loss(total, mse, None)
        v = schedule.as_v(x, value.detach(), t)  # (B, C, H, W): this term does not train the mean
        x0_hat = schedule.x0_from_v(x, v, t)  # (B, C, H, W)
        vlb = variational_bound(schedule, x0_hat, variance.float(), x, x0, t)  # (B,)
        return Loss(total + vlb, mse, vlb)


WEIGHTINGS: dict[str, Callable[[Objective, Tensor], Tensor]] = {
    "uniform": lambda o, abar: abar.new_ones(abar.shape),
    # min(SNR, gamma) / (SNR + 1) with SNR = abar / (1 - abar), multiplied out to avoid a division by 0.
    "min_snr": lambda o, abar: abar.minimum(o.gamma * (1.0 - abar)).clamp_min(o.floor),
    "authors": lambda o, abar: abar * (1.0 - abar).sqrt(),
}
"""Weightings of the loss on v by name: functions of the objective and abar (B,) float64 that return (B,)."""


def variational_bound(schedule: Schedule, x0_hat: Tensor, o: Tensor, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """Compute the term of the variational bound at each timestep, in bits per dimension (Nichol and Dhariwal 2021).

    For t > 0 it is KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)); for t = 0 it is the negative log-likelihood of x0
    under the model's Gaussian, a density, since latents are continuous.

    Args:
        schedule: Noise schedule.
        x0_hat: Predicted clean images, (B, C, H, W).
        o: Raw variance channels, (B, C, H, W).
        x: Noisy images, (B, C, H, W).
        x0: Clean images, (B, C, H, W).
        t: Timesteps, (B,).

    Returns:
        The term of each sample, (B,).
    """
    true = posterior(schedule, t, t - 1)
    one = t.new_ones(t.shape)  # (B,)
    floor = posterior(schedule, one, one - 1).variance.log()  # (B, 1, 1, 1): the value at t = 1 replaces -inf at t = 0
    log_p = log_variance(o, true, floor)  # (B, C, H, W)
    gap = (true.from_x0.to(x.dtype) * (x0 - x0_hat)).square()  # (B, C, H, W): the two means differ only in x0
    log_q = true.variance.log().maximum(floor).to(x.dtype)  # (B, 1, 1, 1)
    kl = 0.5 * (log_p - log_q - 1.0 + (log_q - log_p).exp() + gap * (-log_p).exp())  # (B, C, H, W)
    nll = 0.5 * (math.log(2.0 * math.pi) + log_p + gap * (-log_p).exp())  # (B, C, H, W)
    nats = nll.where((t == 0).view(-1, 1, 1, 1), kl)  # (B, C, H, W)
    return nats.flatten(1).mean(1) / math.log(2.0)  # (B,)
