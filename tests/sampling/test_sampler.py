"""The sampler: what it yields, what it passes on, and that nothing depends on the batch."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fpdm.fixed_point.solvers import Anderson, Picard
from fpdm.sampling.allocation import Adaptive, Allocation, Constant, Increasing
from fpdm.sampling.budget import Budget
from fpdm.sampling.sampler import SampleState, sample
from fpdm.sampling.steps import DDPM, Step, ddim, make_step, second_order
from fpdm.sampling.timesteps import grid
from tests.oracle.gaussian import Exact, Gaussian, Mixture, levels
from tests.sampling.helpers import SCHEDULE, small_model, start

MODEL = small_model()
LABELS = [2, 0, 1, 3, 1, 0, 2, 3]
DATA = Gaussian(np.full(48, 0.3), 0.2 * np.eye(48))
GRID = grid(SCHEDULE, 6)


def draw(indices: list[int], **changes: Any) -> list[SampleState]:
    """States of the images with these indices."""
    arguments = {
        "denoiser": MODEL,
        "x": start(indices),
        "y": torch.tensor([LABELS[i] for i in indices]),
        "schedule": SCHEDULE,
        "timesteps": GRID,
        "step": ddim,
        "budget": Budget(6 * 7, 2, 1, range(1, 10**9)),
        "allocation": Constant(),
        "clip": None,
        "noise": lambda k: start(indices, k + 1),
    }
    return list(sample(**(arguments | changes)))


def test_a_state_for_each_step():
    states = draw([0, 1, 2], allocation=Increasing(), measure=True)
    assert [state.index for state in states] == list(range(6))
    assert {state.steps for state in states} == {6}
    assert tuple(state.timestep for state in states) == GRID
    table = Increasing().table(Budget(42, 2, 1, range(1, 10**9)), 6)
    assert [state.solution.iters for state in states] == list(table)
    assert [state.spent for state in states] == list(itertools.accumulate(table))
    for state in states:
        assert state.x.shape == state.x0.shape == (3, 3, 4, 4)
        assert state.solution.residual is not None
        assert state.solution.residual.shape == (3,)
        assert not state.x.requires_grad
    assert torch.equal(states[-1].x, states[-1].x0)  # DDIM's last step ends on the clean image
    assert draw([0, 1, 2])[0].solution.residual is None


def test_it_is_lazy():
    denoiser = Exact(DATA)
    states = sample(
        denoiser,
        start([0]),
        schedule=SCHEDULE,
        timesteps=GRID,
        step=ddim,
        budget=Budget(42, 2, 1, range(1, 10**9)),
        allocation=Constant(),
        clip=None,
    )
    next(states)
    next(states)
    assert len(denoiser.starts) == 2


@pytest.mark.parametrize("step", [ddim, second_order, make_step("unipc", SCHEDULE, GRID)], ids=["ddim", "2", "unipc"])
def test_images_that_are_sent_back_are_what_it_goes_on_with(step: Step):
    data = Exact(DATA)
    arguments = {"y": None, "schedule": SCHEDULE, "timesteps": GRID, "step": step, "allocation": Constant()}
    states = sample(data, start([0, 1]), **arguments, budget=Budget(42, 2, 1, range(1, 10**9)), clip=None)  # type: ignore[arg-type]
    unchanged = draw([0, 1], denoiser=data, step=step)
    state = next(states)
    assert torch.equal(states.send(state.x).x, unchanged[1].x)  # the same back changes nothing
    zeros = torch.zeros_like(state.x)  # (B, C, H, W)
    state = states.send(zeros)
    a, s = (float(level) for level in SCHEDULE.signal(torch.tensor([GRID[2]])))
    x0 = DATA.x0(np.zeros((1, 48)), np.array([[a]]), np.array([[s]]))  # (1, 48)
    np.testing.assert_allclose(state.x0[0].flatten().numpy(), x0[0], atol=1e-6)


@pytest.mark.parametrize(
    "step", [ddim, second_order, DDPM("small"), DDPM("learned")], ids=["ddim", "second", "ddpm", "learned"]
)
@pytest.mark.parametrize("allocation", [Increasing(), Adaptive(0.02)], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("reuse", [False, True])
def test_batches_of_any_size_give_the_same_images(step: Step, allocation: Allocation, reuse: bool):
    arguments = {"step": step, "allocation": allocation, "reuse": reuse}
    together = draw(list(range(8)), **arguments)[-1]
    assert (together.x - together.x.mean(0)).std() > 0.1  # they are different images
    for size in (1, 3):
        for i in range(0, 8, size):
            indices = list(range(i, min(i + size, 8)))
            apart = draw(indices, **arguments)[-1]
            torch.testing.assert_close(apart.x, together.x[indices], rtol=0, atol=1e-4)
            if isinstance(together.spent, Tensor):
                assert torch.equal(torch.as_tensor(apart.spent), together.spent[indices])
    if isinstance(allocation, Adaptive):
        assert isinstance(together.spent, Tensor)
        assert len(set(together.spent.tolist())) > 1  # and they did not all cost the same


def test_reuse_passes_the_solution_on_and_forgets_it_between_calls():
    denoiser = Exact(DATA)
    for _ in range(2):
        denoiser.starts.clear()
        states = draw([0, 1], denoiser=denoiser, reuse=True)
        assert denoiser.starts[0] is None
        for z0, before in zip(denoiser.starts[1:], states[:-1], strict=True):
            assert z0 is before.solution.z
    denoiser.starts.clear()
    draw([0, 1], denoiser=denoiser)
    assert denoiser.starts == [None] * 6


def test_an_interrupted_run_leaves_nothing_behind():
    once = draw([0, 1], reuse=True)[-1].x  # (B, C, H, W)
    arguments = {"schedule": SCHEDULE, "timesteps": GRID, "step": ddim, "budget": Budget(42, 2, 1, range(1, 10**9))}
    other = sample(
        MODEL, start([5, 6, 7]), torch.tensor([0, 0, 0]), **arguments, allocation=Constant(), clip=None, reuse=True
    )
    next(other)
    next(other)
    assert torch.equal(draw([0, 1], reuse=True)[-1].x, once)


def test_reuse_begins_nearer_to_the_fixed_point():
    arguments = {"measure": True, "timesteps": grid(SCHEDULE, 20), "budget": Budget(80, 2, 1, range(1, 10**9))}
    cold, warm = (draw([0, 1, 2], reuse=reuse, **arguments) for reuse in (False, True))
    for one, other in zip(cold[1:], warm[1:], strict=True):
        assert one.solution.residual is not None
        assert other.solution.residual is not None
        assert other.solution.residual.mean() < one.solution.residual.mean()


def test_the_solver_is_a_choice():
    plain, damped, anderson = (
        draw([0, 1], solver=solver)[-1].x for solver in (Picard(), Picard(damping=0.5), Anderson())
    )  # (B, C, H, W) each
    assert torch.equal(plain, draw([0, 1])[-1].x)
    assert not torch.allclose(plain, damped, atol=1e-3)
    many = Budget(6 * 60, 2, 1, range(1, 10**9))
    converged = [
        draw([0, 1], solver=solver, budget=many)[-1].x for solver in (Picard(), Picard(damping=0.7), Anderson())
    ]
    torch.testing.assert_close(converged[1], converged[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(converged[2], converged[0], rtol=0, atol=1e-3)
    assert not torch.allclose(anderson, plain, atol=1e-6)


@pytest.mark.parametrize("clip", [0.25, 1.0])
def test_clipping_is_of_x0_and_the_noise_is_made_to_fit(clip):
    denoiser = Exact(Gaussian(np.full(48, 0.9), 0.5 * np.eye(48)))
    x, table = start([0, 1]).double(), levels()  # (B, C, H, W)
    states = draw([0, 1], denoiser=denoiser, x=x, clip=clip)
    for state, u in zip(states, [*GRID[1:], -1], strict=True):
        t = state.timestep
        a, s, a_u, s_u = (level[k + 1] for k in (t, u) for level in table[:2])
        flat = x.flatten(1).numpy()  # (B, D)
        x0 = torch.from_numpy(denoiser.data.x0(flat, np.array([[a]]), np.array([[s]]))).view_as(x).clamp(-clip, clip)
        torch.testing.assert_close(state.x0, x0, rtol=0, atol=1e-10)
        x = a_u * x0 + s_u * (x - a * x0) / s  # (B, C, H, W)
        torch.testing.assert_close(state.x, x, rtol=0, atol=1e-10)
    assert max(state.x0.abs().max() for state in states) == clip
    assert states[-1].x.abs().max() <= clip
    assert max(state.x0.abs().max() for state in draw([0, 1], denoiser=denoiser, x=start([0, 1]).double())) > 1.0


@pytest.mark.parametrize("name", ["dpmsolver++", "unipc"])
def test_clipping_reaches_the_schedulers_of_diffusers(name):
    denoiser = Exact(Gaussian(np.full(48, 0.9), 0.5 * np.eye(48)))
    states = draw([0, 1], denoiser=denoiser, x=start([0, 1]).double(), clip=0.25, step=make_step(name, SCHEDULE, GRID))
    # Their last step is of first order: it ends on the clipped x0.
    assert states[-1].x0.abs().max() == 0.25
    torch.testing.assert_close(states[-1].x, states[-1].x0, rtol=0, atol=1e-6)


def test_the_second_order_step_extrapolates_no_further_than_the_clip():
    """On narrow modes at the very ends of the range, extrapolated estimates of x0 would leave it."""
    denoiser = Exact(Mixture((-1.0, 1.0), (0.5, 0.5), 0.05))
    arguments = {"denoiser": denoiser, "x": start([0, 1]).double(), "step": second_order}
    assert draw([0, 1], **arguments)[-1].x.abs().max() > 1.05
    assert draw([0, 1], **arguments, clip=1.0)[-1].x.abs().max() <= 1.0


def test_noise_is_asked_for_by_step_and_only_where_it_is_wanted():
    asked = []

    def noise(k: int) -> Tensor:
        asked.append(k)
        return start([0, 1], k + 1)  # (B, C, H, W)

    draw([0, 1], noise=noise)
    assert asked == []
    draw([0, 1], noise=noise, step=DDPM())
    assert asked[:5] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="noise is None, but this step adds noise"):
        draw([0, 1], noise=None, step=DDPM())


def test_errors_of_the_budget_reach_the_caller():
    with pytest.raises(ValueError, match=r"17 block passes.*6 steps.*at least 18"):
        draw([0], budget=Budget(17, 2, 1, range(1, 10**9)))
    with pytest.raises(ValueError, match="'adaptive', which needs a fixed point"):
        draw([0], budget=Budget(280, 2, 1, range(26, 27)), allocation=Adaptive(0.1))
