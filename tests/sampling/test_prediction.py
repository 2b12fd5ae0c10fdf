"""A network that predicts eps is sampled as the one that predicts the v of the same image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.solve import Solution, Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.transformer import Prediction
from fpdm.sampling.allocation import Constant
from fpdm.sampling.guidance import Guided
from fpdm.sampling.prediction import FromEpsilon, predicting_v
from fpdm.sampling.sampler import sample
from fpdm.sampling.steps import make_step
from fpdm.sampling.timesteps import grid
from tests.oracle.gaussian import alphas_bar
from tests.sampling.helpers import one_each, small_model, start

DIT = Schedule(zero_terminal_snr=False, prediction="epsilon")
MODEL = small_model()
T = torch.tensor([999, 400, 0])  # (B,)
Y = torch.tensor([2, 0, 1])  # (B,)


def solver(f: Any, z0: Tensor) -> Solution:
    return solve(f, z0, solver=Picard(), stop=Stop(2))


def test_dits_schedule() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # (N,)
    torch.testing.assert_close(DIT.alphas_bar[1:], torch.cumprod(1 - betas, 0))
    assert DIT.alphas_bar[-1] > 0
    assert DIT.scheduler_config()["prediction_type"] == "epsilon"
    assert Schedule().scheduler_config()["prediction_type"] == "v_prediction"
    torch.testing.assert_close(Schedule().alphas_bar, torch.from_numpy(alphas_bar()))


def test_the_wrapper_leaves_all_but_the_value() -> None:
    x = start(range(3))  # (B, C, H, W)
    with torch.no_grad():
        raw, got = (one(x, T, Y, solver=solver) for one in (MODEL, predicting_v(MODEL, DIT)))
    abar = DIT.alphas_bar[T + 1].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    x0 = (x - (1 - abar).sqrt() * raw.value) / abar.sqrt()  # (B, C, H, W)
    want = abar.sqrt() * raw.value - (1 - abar).sqrt() * x0  # (B, C, H, W): v by its definition
    torch.testing.assert_close(got.value.double(), want, rtol=1e-4, atol=1e-4)
    assert raw.variance is not None
    assert got.variance is not None
    assert torch.equal(got.variance, raw.variance)
    assert torch.equal(got.solution.z, raw.solution.z)
    assert predicting_v(MODEL, Schedule()) is MODEL


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_guidance_commutes(scale: float) -> None:
    x, null = start(range(3)), MODEL.shape.num_classes  # (B, C, H, W)
    with torch.no_grad():
        before = FromEpsilon(Guided(MODEL, scale, null), DIT)(x, T, Y, solver=solver)
        after = Guided(FromEpsilon(MODEL, DIT), scale, null)(x, T, Y, solver=solver)
    size = 1 + after.value.abs().amax()  # at T values are 157 times as large
    assert (before.value - after.value).abs().amax() < 1e-5 * size


class Exact:
    """The best prediction of eps for N(0, 0.5^2), and variance channels that say betatilde."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        /,
        *,
        solver: Any,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
    ) -> Prediction:
        abar = DIT.alpha_bar(t).to(x.dtype)  # (B, 1, 1, 1)
        eps = (1 - abar).sqrt() / (0.25 * abar + 1 - abar) * x  # (B, C, H, W)
        return Prediction(eps, torch.full_like(x, -1.0), Solution(x, 1))


@pytest.mark.parametrize("name", ["ddim", "ddpm", "second-order", "dpmsolver++", "unipc"])
def test_every_sampler_has_the_right_spread(name: str) -> None:
    """As wide as the data, whichever step is taken: nothing asks what the network predicts."""
    timesteps = grid(DIT, 100)
    generator = torch.Generator().manual_seed(0)

    def noise(_: int = 0) -> Tensor:
        return torch.randn(4000, 1, 1, 1, generator=generator, dtype=torch.float64)  # (B, C, H, W)

    *_, last = sample(
        predicting_v(Exact(), DIT),
        noise(),
        schedule=DIT,
        timesteps=timesteps,
        step=make_step(name, DIT, timesteps, learned_variance=True),
        budget=one_each(100),
        allocation=Constant(),
        clip=None,
        noise=noise,
    )
    assert last.x.std().item() == pytest.approx(0.5, abs=0.04)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="'epsilon' at zero terminal SNR"):
        Schedule(prediction="epsilon")
    with pytest.raises(ValueError, match="prediction is 'x0'; expected 'v' or 'epsilon'"):
        replace(DIT, prediction="x0")  # type: ignore[arg-type]
