"""Self-guidance: against a closed form, against class guidance in either order, and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fpdm.autoencoder.vae import VAE
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.solve import Solution, Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer, Prediction
from fpdm.sampling.guidance import Guided
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from fpdm.sampling.prediction import FromEpsilon
from fpdm.sampling.sampler import SampleState
from fpdm.sampling.schedulers import default_scheduler
from fpdm.sampling.self_guidance import SelfGuided, WeakAnswers, affordable_steps
from fpdm.sampling.steps import make_step
from fpdm.sampling.timesteps import grid
from tests.autoencoders import tiny
from tests.models.random_models import random_model
from tests.oracle.gaussian import Exact, Gaussian, levels
from tests.sampling.helpers import SCHEDULE, small_model, start, trajectory

CPU = torch.device("cpu")
MODEL = small_model()
NULL = MODEL.shape.num_classes
DIT = random_model(as_dit(MODEL.shape, 5), torch.float32)
LABELS = torch.tensor([2, 0, 1])  # (B,)
T = torch.tensor([999, 400, 30])  # (B,)


def solver(f: Any, z0: Tensor) -> Solution:
    return solve(f, z0, solver=Picard(), stop=Stop(4))


@dataclass
class TwoAnswers:
    """The best denoiser of a Gaussian, whose weaker answer is that of a wider one."""

    strong: float = 0.4
    weak: float = 0.7

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
        answers = [
            Exact(Gaussian(np.zeros(1), np.array([[std**2]])))(x, t, solver=solver) for std in (self.strong, self.weak)
        ]
        return replace(answers[0], weak=None if weak_depth is None else answers[1].value)


@pytest.mark.parametrize("between", [(), (300, 999), (0, 600), (200, 700)])
@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0, 2.0])
def test_gaussians_are_narrowed_exactly(weight: float, between: tuple[int, ...]) -> None:
    """Along dx / dphi = v a Gaussian of width s is scaled like its width, std(phi)^2 = (cos(phi) s)^2 + sin(phi)^2.

    So d ln x / dphi = (1 + w) d ln std_strong / dphi - w d ln std_weak / dphi where guidance acts, and the widths that
    the two answers give to one end of that range, relative to the other end, decide the result.
    """
    timesteps = grid(SCHEDULE, 1000)
    step = make_step("second-order", SCHEDULE, timesteps)
    guided = SelfGuided(TwoAnswers(), weight, 1, between)
    got = trajectory(guided, np.ones((1, 1)), timesteps, step)[-1].item()

    low, high = between or (0, 999)
    phi = levels().phi  # (N + 1,): timestep t at t + 1

    def ratio(std: float) -> float:
        """Width at the clean end of the range over the width at its noisy end; a step at t ends at t - 1."""
        ends = [math.hypot(math.cos(phi[at]) * std, math.sin(phi[at])) for at in (low, high + 1)]
        return ends[0] / ends[1]

    want = 0.4 * (ratio(0.4) / ratio(0.7)) ** weight
    assert got == pytest.approx(want, rel=2e-3)
    if weight and not between:
        assert got == pytest.approx(0.4 * (0.4 / 0.7) ** weight, rel=2e-3)


def call(denoiser: Any, y: Tensor = LABELS, **given: Any) -> Prediction:
    with torch.no_grad():
        return denoiser(start(range(3)), T, y, solver=solver, **given)


def test_the_formula_and_what_stays_the_strong_answers() -> None:
    both = call(MODEL, weak_depth=1)
    assert both.weak is not None
    got = call(SelfGuided(MODEL, 1.5, 1))
    torch.testing.assert_close(got.value, 2.5 * both.value - 1.5 * both.weak, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.variance, both.variance, rtol=0, atol=0)
    torch.testing.assert_close(got.solution.z, both.solution.z, rtol=0, atol=0)
    assert got.weak is None
    assert got.solution.iters == 4


def test_samples_outside_the_range_are_left_alone() -> None:
    plain, inside = call(MODEL), call(SelfGuided(MODEL, 1.5, 1))
    got = call(SelfGuided(MODEL, 1.5, 1, (400, 999)))  # of the timesteps 999, 400 and 30
    torch.testing.assert_close(got.value[:2], inside.value[:2], rtol=0, atol=0)
    torch.testing.assert_close(got.value[2], plain.value[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("guided", [SelfGuided(MODEL, 0.0, 1), SelfGuided(MODEL, 2.0, 1, (500, 900))])
def test_no_guidance_is_the_model_bit_by_bit(guided: SelfGuided) -> None:
    got, plain = call(guided), call(MODEL)
    assert torch.equal(got.value, plain.value)
    assert got.variance is not None
    assert plain.variance is not None
    assert torch.equal(got.variance, plain.variance)


@pytest.mark.parametrize("model", [MODEL, DIT], ids=["fpdm", "dit"])
def test_class_guidance_goes_in_either_order(model: DiffusionTransformer) -> None:
    depth = model.cost().middle.weak_depth
    inside = call(Guided(SelfGuided(model, 1.5, depth), 3.0, NULL))
    outside = call(SelfGuided(Guided(model, 3.0, NULL), 1.5, depth))
    size = inside.value.abs().amax()
    assert (inside.value - outside.value).abs().amax() < 1e-5 * size
    with_class, without = (call(model, y, weak_depth=depth) for y in (LABELS, torch.full_like(LABELS, NULL)))
    assert with_class.weak is not None
    assert without.weak is not None
    v_with = 2.5 * with_class.value - 1.5 * with_class.weak  # (B, C, H, W)
    v_without = 2.5 * without.value - 1.5 * without.weak  # (B, C, H, W)
    assert (inside.value - (3.0 * v_with - 2.0 * v_without)).abs().amax() < 1e-4 * size


def test_a_network_that_predicts_eps_is_guided_before_or_after() -> None:
    schedule = Schedule(prediction="epsilon", zero_terminal_snr=False)
    before = call(FromEpsilon(SelfGuided(MODEL, 1.5, 1), schedule))
    after = call(SelfGuided(FromEpsilon(MODEL, schedule), 1.5, 1))
    size = 1 + after.value.abs().amax()  # at T values are 157 times as large
    assert (before.value - after.value).abs().amax() < 1e-5 * size


@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan])
def test_refuses_weights_and_being_guided_twice(weight: float) -> None:
    with pytest.raises(ValueError, match=f"the weight is {weight}; expected a finite number of at least 0"):
        SelfGuided(MODEL, weight, 1)
    with pytest.raises(ValueError, match="guided by its weaker answer already"):
        call(SelfGuided(SelfGuided(MODEL, 1.0, 1), 1.0, 1))


PLANS = {
    "cold": Plan(60, 4, reuse=False, self_guidance=1.0),
    "reuse": Plan(60, 4, self_guidance=1.0),
    "deeper": Plan(70, 4, self_guidance=0.5, weak_depth=2),
    "the start": Plan(60, 4, self_guidance=0.5, weak_depth=0),
    "a range": Plan(75, 3, self_guidance=1.0, self_guidance_range=(200, 700)),
    "increasing": Plan(61, 3, self_guidance=1.0, allocation="increasing"),
    "class guidance": Plan(60, 4, self_guidance=1.0, guidance=2.0),
    "anderson, ddpm": Plan(60, 4, self_guidance=1.0, solver="anderson", sampler="ddpm"),
    "adaptive": Plan(60, 4, self_guidance=1.0, allocation="adaptive"),
}


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample with plain layers: PyTorch's counter does not know the products of packed ones."""
    monkeypatch.setattr("fpdm.sampling.images.packed", lambda model: model)


def run(sampler: ImageSampler, count: int = 2) -> SampleState:
    *_, last = sampler.trajectory(range(count), [index % NULL for index in range(count)])
    return last


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("model", [MODEL, DIT], ids=["fpdm", "dit"])
def test_costs_are_within_the_budget_and_those_of_the_flop_counter(model: DiffusionTransformer, plan: Plan) -> None:
    if not model.cost().middle.adjustable:
        if plan.adaptive:
            return
        plan = replace(plan, iterations=0, allocation="constant")
    sampler = ImageSampler(model, SCHEDULE, plan, device=CPU)
    plain = ImageSampler(model, SCHEDULE, replace(plan, self_guidance=0.0, weak_depth=None, self_guidance_range=()))
    assert len(sampler.timesteps) < len(plain.timesteps)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        last = run(sampler)
    passes, macs = sampler.spent(last)
    assert passes <= plan.budget
    if not plan.adaptive:
        assert passes == plan.budget - sampler.unspent
        counted = counter.get_total_flops() / 2 / 2
        assert macs == counted if plan.solver == "picard" else macs <= counted  # Anderson's own work is counted too


@pytest.mark.parametrize("budget", range(5, 40))
def test_as_many_steps_as_the_budget_affords(budget: int) -> None:
    """Against counting by hand: 2 explicit passes, 2 iterations, a post block, an iteration where the start is warm."""
    plan = Plan(budget, 2, self_guidance=1.0, self_guidance_range=(300, 1000))
    sampler = ImageSampler(MODEL, SCHEDULE, plan, device=CPU)

    def cost(steps: int) -> int:
        acts = [t >= 300 for t in grid(SCHEDULE, steps)]
        return 4 * steps + sum(acts) + sum(acts[1:])

    steps = len(sampler.timesteps)
    assert cost(steps) <= budget < cost(steps + 1)
    passes, _ = sampler.spent(run(sampler, 1))
    assert passes == budget - sampler.unspent
    assert sampler.unspent == 0  # what is left goes to single iterations


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_an_image_does_not_depend_on_its_batch(plan: Plan) -> None:
    sampler = ImageSampler(MODEL, SCHEDULE, plan, device=CPU)
    *_, together = sampler.trajectory(range(3), [0, 1, 2])
    *_, alone = sampler.trajectory([1], [1])
    size = together.x[1].abs().amax()
    assert (together.x[1] - alone.x[0]).abs().amax() < 1e-4 * size
    plain = ImageSampler(
        MODEL, SCHEDULE, replace(plan, self_guidance=0.0, weak_depth=None, self_guidance_range=()), device=CPU
    )
    assert (run(plain, 3).x - together.x).abs().amax() > 1e-2 * size


@pytest.mark.usefixtures("_plain")
def test_latents_are_guided_without_a_clip_and_decoded(tmp_path: Path) -> None:
    autoencoder = VAE.of(tiny(tmp_path), source="")
    shape = TransformerConfig(image_size=4, in_channels=4, patch_size=2, width=16, heads=2, num_classes=3)
    model = random_model(shape, torch.float32)
    sampler = ImageSampler(model, SCHEDULE, PLANS["reuse"], device=CPU, autoencoder=autoencoder)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        last = run(sampler)
        sampler.decode(last.x)
    assert last.x0.abs().amax() > 1
    assert sampler.spent(last) == (60 - sampler.unspent, counter.get_total_flops() / 2 / 2)
    assert sampler(range(2), [0, 1]).pixels.shape == (2, 1, 8, 8)


def test_a_scheduler_of_diffusers_is_paid_for_as_well() -> None:
    schedule = Schedule(zero_terminal_snr=False)  # or diffusers' Heun would not fit
    config = default_scheduler(schedule, clip=True).config
    for kind in (diffusers.UniPCMultistepScheduler, diffusers.HeunDiscreteScheduler):
        for between in ((), (0, 500)):
            plan = Plan(70, 3, self_guidance=1.0, self_guidance_range=between)
            sampler = ImageSampler(MODEL, schedule, plan, device=CPU, scheduler=kind.from_config(config))
            passes, _ = sampler.spent(run(sampler))
            assert passes == 70 - sampler.unspent <= 70


@pytest.mark.parametrize(
    ("model", "plan", "message"),
    [
        (DIT, Plan(60, self_guidance=1.0, weak_depth=3), "weak_depth is 3; expected 0 to 2, fewer than the 3 blocks"),
        (DIT, Plan(5, self_guidance=1.0), "a budget of 5 block passes is below one step with self-guidance; .*least 6"),
        (MODEL, Plan(4, 2, self_guidance=1.0), "a budget of 4 block passes is below one step with .* at least 5"),
        (MODEL, Plan(60, 1, reuse=False, self_guidance=1.0), "weak_depth is 1, but with 1 iterations per step"),
    ],
)
def test_what_does_not_fit_the_model_is_told(model: DiffusionTransformer, plan: Plan, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSampler(model, SCHEDULE, plan, device=CPU)


def test_a_model_without_a_middle_has_no_weaker_answer() -> None:
    cost = DiffusionTransformer.from_shape(as_dit(MODEL.shape, 2)).cost()
    with pytest.raises(ValueError, match="a model without a middle has none; leave it out"):
        WeakAnswers.of(Plan(60, self_guidance=1.0), cost)
    assert WeakAnswers.of(Plan(60), cost) is None
    assert affordable_steps(Plan(60), cost, range) == 30
