"""What is recorded of a sampling, against samplings that are not looked at and solves of one iteration each."""

from __future__ import annotations

import functools

import pytest
import torch

from fpdm.data.images import to_uint8
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.inspection.measure import inspect_adaptive, inspect_sampling, spread
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, normal
from fpdm.runs.pretrained import recipe_without_data
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from fpdm.sampling.plan import Plan
from tests.pipelines import SHAPE, network

PLAN = Plan(28, 5)  # four steps of five iterations


def made(shape: TransformerConfig = SHAPE) -> Run:
    from fpdm.autoencoder.config import AutoencoderConfig
    from fpdm.diffusion.schedule import Schedule

    model: DiffusionTransformer = network(shape)
    recipe = recipe_without_data("tiny", shape, Schedule(), AutoencoderConfig())
    return Run(recipe, model, Progress(), "0")


@pytest.mark.parametrize("plan", [PLAN, Plan(28, 5, guidance=2.0), Plan(60, allocation="adaptive", reuse=False)])
def test_looking_changes_nothing(plan: Plan) -> None:
    run, labels = made(), [0, 1, 2]
    drawn = run.sampler(plan, seed=3)(range(3), labels)
    sampling, solves = inspect_sampling(run, plan, labels, seed=3, rows=3, columns=6)
    assert torch.equal(sampling.images, drawn.pixels)
    assert sampling.passes == pytest.approx(drawn.passes)
    assert solves is not None
    assert solves.timesteps == tuple(sampling.timesteps[place] for place in spread(len(sampling.timesteps), 3))
    assert sampling.iterations.shape == (len(sampling.timesteps), 3)
    # Two explicit blocks in each step.
    spent = sampling.iterations.sum(0).mean().item() + 2 * len(sampling.timesteps)
    assert spent == pytest.approx(drawn.passes)


def test_a_solve_is_followed_from_the_start_that_the_sampling_has() -> None:
    """The first step starts cold from noise, the second from the solution of the first."""
    run, plan = made(), Plan(14, 5)
    sampling, solves = inspect_sampling(run, plan, [0, 1], seed=1, rows=2, columns=5)
    assert solves is not None
    t = torch.full((2,), int(sampling.timesteps[0]))
    x = normal((1, 8, 8), seed=1, stream=Stream.SAMPLE, indices=range(2))
    first = run.model(x, t, torch.tensor([0, 1]), solver=functools.partial(solve, solver=Picard(), stop=Stop(5)))
    residuals = []
    for count in range(1, 6):
        stop = Stop(count, measure=True)
        bound = functools.partial(solve, solver=Picard(), stop=stop)
        found = run.model(x, t, torch.tensor([0, 1]), solver=bound).solution.residual
        assert found is not None
        residuals.append(found.mean().item())
    assert solves.residuals[0] == pytest.approx(residuals)
    *_, second = zip(run.sampler(plan, seed=1).trajectory(range(2), [0, 1], measure=True), range(2), strict=False)
    assert second[0].solution.residual.mean().item() == pytest.approx(solves.residuals[1][4], rel=1e-4)
    # After the five iterations of the plan, the prediction is that of the sampling.
    assert torch.equal(solves.previews[0][4], sampling.previews[0][solves.shown])
    assert torch.equal(solves.previews[1][4], sampling.previews[1][solves.shown])
    x0 = run.recipe.schedule.x0_from_v(x, first.value, t).clamp(-1, 1)
    assert torch.equal(sampling.previews[0], to_uint8(x0))


def test_a_stack_is_asked_after_its_blocks() -> None:
    run = made(as_dit(SHAPE, 5))  # three blocks in the middle
    sampling, solves = inspect_sampling(run, Plan(20), [0, 1], seed=0, rows=2, columns=12)
    assert solves is not None
    assert solves.iterations == (0, 1, 2, 3)
    assert not solves.residuals
    assert torch.equal(solves.previews[0][3], sampling.previews[0][solves.shown])
    assert not torch.equal(solves.previews[0][0], solves.previews[0][3])
    with pytest.raises(ValueError, match="adaptive"):
        inspect_adaptive(run, Plan(20), [0], seed=0)


def test_an_adaptive_allocation_has_the_same_timesteps_and_numbers_of_its_own() -> None:
    run = made()
    planned, _ = inspect_sampling(run, PLAN, [0, 1], seed=0)
    adaptive = inspect_adaptive(run, PLAN, [0, 1], seed=0)
    assert adaptive.timesteps == planned.timesteps
    assert (planned.iterations == 5).all()
    assert adaptive.passes <= PLAN.budget


@pytest.mark.parametrize(("count", "most", "places"), [(3, 5, [0, 1, 2]), (20, 3, [0, 10, 19]), (5, 1, [0])])
def test_places_are_spread_evenly(count: int, most: int, places: list[int]) -> None:
    assert spread(count, most) == places
