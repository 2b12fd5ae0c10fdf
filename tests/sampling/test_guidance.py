"""Guidance against two plain evaluations of the same model."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fpdm.fixed_point.solve import Solution, Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.transformer import Prediction
from fpdm.sampling.allocation import Adaptive, Constant
from fpdm.sampling.budget import Budget
from fpdm.sampling.guidance import Guided
from fpdm.sampling.sampler import sample
from fpdm.sampling.steps import ddim
from fpdm.sampling.timesteps import grid
from tests.sampling.helpers import SCHEDULE, small_model, start

MODEL = small_model()
NULL = MODEL.shape.num_classes
LABELS = torch.tensor([2, 0, 1])  # (B,)
T = torch.tensor([999, 400, 30])  # (B,)


def solver(f: Any, z0: Tensor) -> Solution:
    return solve(f, z0, solver=Picard(), stop=Stop(4))


def both(x: Tensor) -> tuple[Prediction, Prediction]:
    with torch.no_grad():
        return MODEL(x, T, LABELS, solver=solver), MODEL(x, T, torch.full_like(LABELS, NULL), solver=solver)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 4.0])
def test_all_channels_are_guided(scale):
    x = start(range(3))  # (B, C, H, W)
    with_class, without = both(x)
    assert (with_class.value - without.value).abs().amin(dim=(0, 2, 3)).gt(0).all()  # no channel would hide a mistake
    with torch.no_grad():
        got = Guided(MODEL, scale, NULL)(x, T, LABELS, solver=solver)
    want = (1 - scale) * without.value + scale * with_class.value  # (B, C, H, W)
    torch.testing.assert_close(got.value, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.variance, with_class.variance, rtol=1e-4, atol=1e-5)
    halves = torch.cat([with_class.solution.z, without.solution.z])  # (2B, T, D)
    torch.testing.assert_close(got.solution.z, halves, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reuse", [True, False])
def test_each_half_keeps_its_own_solution(reuse):
    """Guided sampling equals a plain loop in which the two halves are run apart, each from its own last solution."""
    timesteps, scale = grid(SCHEDULE, 5), 2.5
    x = start(range(3))  # (B, C, H, W)
    states = sample(
        Guided(MODEL, scale, NULL),
        x,
        LABELS,
        schedule=SCHEDULE,
        timesteps=timesteps,
        step=ddim,
        budget=Budget(5 * 5, 2, 1, range(1, 10**9)),
        allocation=Constant(),
        clip=None,
        reuse=reuse,
    )
    mine = {"class": None, "none": None}
    for state, t, u in zip(states, timesteps, [*timesteps[1:], -1], strict=True):
        now, after = torch.full((3,), t), torch.full((3,), u)  # (B,) each
        values = {}
        for name, labels in (("class", LABELS), ("none", torch.full_like(LABELS, NULL))):
            with torch.no_grad():
                prediction = MODEL(
                    x, now, labels, solver=lambda f, z0: solve(f, z0, solver=Picard(), stop=Stop(3)), z0=mine[name]
                )
            values[name] = prediction.value  # (B, C, H, W)
            mine[name] = prediction.solution.z if reuse else None  # (B, T, D)
        v = values["none"] + scale * (values["class"] - values["none"])  # (B, C, H, W)
        a, s = SCHEDULE.signal(after, x.dtype)
        x = a * SCHEDULE.x0_from_v(x, v, now) + s * SCHEDULE.eps_from_v(x, v, now)  # (B, C, H, W)
        torch.testing.assert_close(state.x, x, rtol=1e-3, atol=1e-4)


def test_an_adaptive_budget_holds_for_each_half():
    budget = Budget(45, 2, 1, range(1, 10**9))  # all want more
    *_, last = sample(
        Guided(MODEL, 3.0, NULL),
        start(range(3)),
        LABELS,
        schedule=SCHEDULE,
        timesteps=grid(SCHEDULE, 5),
        step=ddim,
        budget=budget,
        allocation=Adaptive(1e-4),
        clip=None,
    )
    assert isinstance(last.spent, Tensor)
    assert last.spent.shape == (6,)
    assert (5 * 2 + last.spent == 45).all()


@pytest.mark.parametrize("scale", [-0.1, math.inf, math.nan])
def test_refuses_scales(scale):
    with pytest.raises(ValueError, match=f"the guidance scale is {scale}; expected a finite number of at least 0"):
        Guided(MODEL, scale, NULL)


def test_refuses_unconditional_models_and_missing_labels():
    with pytest.raises(ValueError, match="unconditional; leave it out"):
        Guided(MODEL, 2.0, 0)
    with pytest.raises(ValueError, match="y is None; expected labels"):
        Guided(MODEL, 2.0, NULL)(start(range(3)), T, solver=solver)
