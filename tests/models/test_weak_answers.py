"""Weaker answers of a network: against shallower networks with the same weights, and what is computed for them."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fpdm.fixed_point.gradients import FixedPointSolver, stochastic_jfb, unrolled
from fpdm.fixed_point.solve import Map, Solution, Stop, solve
from fpdm.fixed_point.solvers import Anderson, Picard
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from tests.models.random_models import random_batch, random_model, run

FPDM = TransformerConfig(image_size=8, in_channels=3, width=24, heads=3, num_classes=7)
DIT = as_dit(FPDM, 6)
FIXED_POINTS = {
    "published": FPDM,
    "linear, fixed variance": replace(FPDM, injection="linear", learn_variance=False),
    "cell of two, timestep everywhere": replace(FPDM, middle_blocks=2, timestep_everywhere=True),
    "no post block": replace(FPDM, post_blocks=0),
}
SOLVERS: dict[str, FixedPointSolver] = {
    "picard": functools.partial(solve, solver=Picard(), stop=Stop(4)),
    "damped": functools.partial(solve, solver=Picard(0.5), stop=Stop(4)),
    "anderson": functools.partial(solve, solver=Anderson(), stop=Stop(4)),
    "to a tolerance, each sample": functools.partial(solve, solver=Picard(), stop=Stop(9, tol=0.3)),
}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("shape", FIXED_POINTS.values(), ids=FIXED_POINTS)
@torch.no_grad()
def test_that_of_a_fixed_point_is_an_iterate_from_a_cold_start(
    shape: TransformerConfig, solver: FixedPointSolver, depth: int, warm: bool
) -> None:
    model, batch = random_model(shape, torch.float64), random_batch(shape, torch.float64)
    z0 = torch.randn(3, shape.tokens, shape.width, dtype=torch.float64) if warm else None  # (B, T, D)
    both = model(batch.x, batch.t, batch.y, solver=solver, z0=z0, weak_depth=depth)
    plain = model(batch.x, batch.t, batch.y, solver=solver, z0=z0)
    assert plain.weak is None
    torch.testing.assert_close(both.value, plain.value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(both.solution.z, plain.solution.z, rtol=0, atol=0)
    if shape.learn_variance:
        torch.testing.assert_close(both.variance, plain.variance, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(both.weak, run(model, batch, depth).value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", range(4))
def test_that_of_a_stack_is_a_shallower_one(depth: int) -> None:
    model, batch = random_model(DIT, torch.float64), random_batch(DIT, torch.float64)
    shallow = DiffusionTransformer.from_shape(replace(DIT, middle_blocks=depth)).double()
    kept = {name: value for name, value in model.state_dict().items() if name in shallow.state_dict()}
    shallow.load_state_dict(kept)
    with torch.no_grad():
        both = model(batch.x, batch.t, batch.y, weak_depth=depth)
    torch.testing.assert_close(both.value, run(model, batch, 1).value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(both.weak, run(shallow, batch, 1).value, rtol=1e-10, atol=1e-10)


def test_that_of_a_shared_stack_counts_every_application() -> None:
    shape = replace(as_dit(FPDM, 4), repeats=3)  # 2 blocks, applied three times
    model, batch = random_model(shape, torch.float64), random_batch(shape, torch.float64)
    once = DiffusionTransformer.from_shape(replace(shape, repeats=2)).double()
    once.load_state_dict(model.state_dict())
    with torch.no_grad():
        both = model(batch.x, batch.t, batch.y, weak_depth=4)
    torch.testing.assert_close(both.weak, run(once, batch, 1).value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(both.value, run(model, batch, 1).value, rtol=1e-10, atol=1e-10)
    for depth in (-1, 6):
        with pytest.raises(ValueError, match=f"depth is {depth}; expected 0 to 5"):
            model(batch.x, batch.t, batch.y, weak_depth=depth)


def calls(warm: bool, depth: int, solver: FixedPointSolver) -> int:
    """How often the map is applied for a solution and a weaker answer."""
    model, batch = random_model(FPDM, torch.float32), random_batch(FPDM, torch.float32)
    counted = 0
    iterate = model.middle.iterate

    def counting(*args: object) -> Tensor:
        nonlocal counted
        counted += 1
        return iterate(*args)

    model.middle.iterate = counting
    z0 = torch.zeros(3, FPDM.tokens, FPDM.width) if warm else None  # (B, T, D)
    model(batch.x, batch.t, batch.y, solver=solver, z0=z0, weak_depth=depth)
    return counted


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["picard", "anderson"])
@torch.no_grad()
def test_the_first_iterate_is_shared_where_the_solve_starts_cold(name: str, depth: int) -> None:
    told = DiffusionTransformer.from_shape(FPDM).cost().middle.weak_iterations
    assert calls(True, depth, SOLVERS[name]) - 4 == told(depth, cold=False) == depth
    assert calls(False, depth, SOLVERS[name]) - 4 == told(depth, cold=True) == max(depth - 1, 0)


@pytest.mark.parametrize(("depth", "warm"), [(0, False), (1, False), (1, True), (2, False), (3, True)])
@pytest.mark.parametrize("shape", [*FIXED_POINTS.values(), DIT, as_dit(FPDM, 6, shared=True)])
def test_macs_equal_the_flop_counter(shape: TransformerConfig, depth: int, warm: bool) -> None:
    model, batch = DiffusionTransformer.from_shape(shape), random_batch(shape, torch.float32)
    z0 = torch.zeros(3, shape.tokens, shape.width) if warm else None  # (B, T, D)
    # The counter counts the fused CPU attention as nothing.
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = model(batch.x, batch.t, batch.y, solver=SOLVERS["picard"], z0=z0, weak_depth=depth)
    cost = model.cost()
    own = cost.middle.weak_iterations(depth, cold=not warm)
    assert cost.evaluation_macs(found.solution.iters) + cost.weak_macs(own) == counter.get_total_flops() / 2 / 3
    assert cost.weak_passes(own) == shape.post_blocks + own * shape.middle_blocks


def test_depths_that_there_are() -> None:
    for shape, depths, usual in (
        (FPDM, (0, 1, 99), 1),
        (replace(FPDM, injection="linear"), (0, 1, 99), 0),
        (DIT, (0, 3), 0),
        (as_dit(FPDM, 6, shared=True), (0, 3), 0),
    ):
        middle = DiffusionTransformer.from_shape(shape).cost().middle
        assert middle.weak_depth == usual
        assert all(depth in middle.weak_depths for depth in depths)
        assert middle.adjustable or max(depths) + 1 not in middle.weak_depths
    assert not DiffusionTransformer.from_shape(as_dit(FPDM, 2)).cost().middle.weak_depths


def gradients(model: DiffusionTransformer, loss: Tensor) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, [*named.values()], allow_unused=True)
    return {
        name: torch.zeros_like(one) if g is None else g for (name, one), g in zip(named.items(), found, strict=True)
    }


@pytest.mark.parametrize("checkpointing", ["none", "all"])
@pytest.mark.parametrize("n", [0, 2])
def test_it_is_trained_like_an_answer_of_so_many_iterations(n: int, checkpointing: str) -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    model.checkpoint_activations(checkpointing)  # type: ignore[arg-type]
    gradient = stochastic_jfb(2, 3)
    weak = model(batch.x, batch.t, batch.y, solver=functools.partial(gradient.solve, n=n, m=3), weak_depth=1).weak
    want = model(batch.x, batch.t, batch.y, solver=functools.partial(unrolled(1).solve, n=0, m=1)).value
    got, expected = (gradients(model, one.square().sum()) for one in (weak, want))
    assert expected["pre.0.attn.qkv.weight"].abs().sum() > 0
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


def test_the_map_keeps_only_its_first_result() -> None:
    """A solver that evaluates the map elsewhere first, and starts later, is not trusted with a cold start's iterate."""

    def twice(f: Map, z0: Tensor) -> Solution:
        return Solution(f(f(z0)), 2)

    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    with torch.no_grad():
        both = model(batch.x, batch.t, batch.y, solver=twice, weak_depth=1)
    torch.testing.assert_close(both.weak, run(model, batch, 1).value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize(("at", "iterate"), [(0.0, 1), (0.49, 1), (0.5, 2), (0.99, 2)])
@pytest.mark.parametrize("shape", FIXED_POINTS.values(), ids=FIXED_POINTS)
def test_an_early_exit_of_a_fixed_point_is_an_iterate_with_gradient(
    shape: TransformerConfig, at: float, iterate: int, n: int
) -> None:
    model, batch = random_model(shape, torch.float64), random_batch(shape, torch.float64)
    z0 = torch.randn(3, shape.tokens, shape.width, dtype=torch.float64) if n else None  # (B, T, D)
    solve_with = unrolled(3).solve

    def gradients(*answers: Tensor) -> list[Tensor]:
        model.zero_grad()
        torch.stack([answer.square().sum() for answer in answers]).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    both = model(batch.x, batch.t, batch.y, solver=functools.partial(solve_with, n=n, m=3), z0=z0, exit_at=at)
    answers = [
        model(batch.x, batch.t, batch.y, solver=functools.partial(solve_with, n=n, m=m), z0=z0).value
        for m in (3, iterate)
    ]
    assert both.weak is not None
    torch.testing.assert_close([both.value, both.weak], answers, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(both.value, both.weak), gradients(*answers), rtol=1e-8, atol=1e-8)


def test_there_is_no_early_exit_before_a_single_iterate_with_gradient() -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    one = model(batch.x, batch.t, batch.y, solver=functools.partial(unrolled(1).solve, n=4, m=1), exit_at=0.5)
    assert one.weak is None
    with pytest.raises(ValueError, match="exit_at does not go with weak_depth"):
        model(batch.x, batch.t, batch.y, exit_at=0.5, weak_depth=1)


@pytest.mark.parametrize(("at", "depth"), [(0.0, 0), (0.3, 1), (0.99, 3)])
@torch.no_grad()
def test_an_early_exit_of_a_stack_is_after_some_of_its_blocks(at: float, depth: int) -> None:
    model, batch = random_model(DIT, torch.float64), random_batch(DIT, torch.float64)  # 4 blocks in the middle
    found, want = model(batch.x, batch.t, batch.y, exit_at=at), model(batch.x, batch.t, batch.y, weak_depth=depth)
    assert torch.equal(found.weak, want.weak)
    assert torch.equal(found.value, want.value)
    empty = replace(DIT, middle_blocks=0)
    assert random_model(empty, torch.float64)(batch.x, batch.t, batch.y, exit_at=at).weak is None
