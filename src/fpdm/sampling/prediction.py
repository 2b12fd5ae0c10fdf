"""A network that predicts eps, as a denoiser that predicts v: samplers know v only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.models.transformer import Prediction
from fpdm.sampling.guidance import Denoiser


@dataclass(frozen=True)
class FromEpsilon:
    """v = (eps - s x) / a of a network that predicts eps; its variance channels and solution are left as they are.

    At a given x this is affine in eps, and the weights of guidance's two halves sum to 1: so it makes no difference
    which of the two comes first.

    Attributes:
        denoiser: The network.
        schedule: Its noise schedule, not at zero terminal SNR.
    """

    denoiser: Denoiser
    schedule: Schedule

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, /, *, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> Prediction:
        """The prediction as v, (B, C, H, W)."""
        prediction = self.denoiser(x, t, y, solver=solver, z0=z0)
        return replace(prediction, value=self.schedule.v_from_eps(x, prediction.value, t))


def predicting_v(denoiser: Denoiser, schedule: Schedule) -> Denoiser:
    """The denoiser itself, or wrapped if `schedule` says that it predicts eps."""
    return denoiser if schedule.prediction == "v" else FromEpsilon(denoiser, schedule)
