"""Adapter for networks that predict eps: samplers expect v."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.models.transformer import Prediction
from fpdm.sampling.guidance import Denoiser


@dataclass(frozen=True)
class FromEpsilon:
    """Denoiser that turns predicted eps into v = (eps - s x) / a and keeps variance channels and solution as they are.

    For a given x this is affine in eps, and the weights of the two halves of guidance sum to 1, so the conversion gives
    the same result before and after guidance.

    Attributes:
        denoiser: Network that predicts eps.
        schedule: Its noise schedule, which must not have zero terminal SNR.
    """

    denoiser: Denoiser
    schedule: Schedule

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        /,
        *,
        solver: FixedPointSolver,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
    ) -> Prediction:
        """Predict v, (B, C, H, W)."""
        prediction = self.denoiser(x, t, y, solver=solver, z0=z0, weak_depth=weak_depth)
        weak = None if prediction.weak is None else self.schedule.v_from_eps(x, prediction.weak, t)  # (B, C, H, W)
        return replace(prediction, value=self.schedule.v_from_eps(x, prediction.value, t), weak=weak)


def predicting_v(denoiser: Denoiser, schedule: Schedule) -> Denoiser:
    """Return the denoiser, wrapped in `FromEpsilon` if `schedule` says that it predicts eps."""
    return denoiser if schedule.prediction == "v" else FromEpsilon(denoiser, schedule)
