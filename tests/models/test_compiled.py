"""Compiled iterations: compiled once, whatever the numbers of iterations, and without synchronising with the device."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from fpdm.fixed_point.gradients import JacobianFree, stochastic_jfb
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Anderson, Picard
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from tests.models.random_models import random_model

SHAPE = TransformerConfig(image_size=4, in_channels=1, patch_size=2, width=8, heads=2, num_classes=3)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Forget what other tests have compiled."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def inputs(size: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(size, 1, 4, 4, generator=torch.Generator().manual_seed(size))  # (B, C, H, W)
    return x, torch.full((size,), 500), torch.arange(size) % 3


def train(model: DiffusionTransformer, n: int, m: int) -> None:
    """Make a gradient with n iterations without gradient and m with."""
    solver = functools.partial(stochastic_jfb(12, 12).solve, n=n, m=m)
    model(*inputs(), solver=solver).value.square().mean().backward()


def sampled(model: DiffusionTransformer, iterations: int, size: int = 3) -> Tensor:
    with torch.no_grad():
        solver = functools.partial(solve, solver=Picard(), stop=Stop(iterations))
        return model(*inputs(size), solver=solver).value


def test_nothing_is_compiled_again_for_other_numbers_of_iterations() -> None:
    model = random_model(SHAPE, torch.float32)
    model.compile_iterations(backend="eager")
    train(model, 1, 2)
    sampled(model, 2)
    before = counters["stats"]["unique_graphs"]
    assert before > 0
    for n, m in ((0, 1), (3, 1), (12, 12), (1, 3)):
        train(model, n, m)
    for iterations in (1, 5, 26):
        sampled(model, iterations)
    with torch.no_grad():
        model(*inputs(), solver=functools.partial(solve, solver=Anderson(), stop=Stop(9, tol=1e-3)))
    assert counters["stats"]["unique_graphs"] == before


def test_blocks_of_a_stack_share_what_is_compiled() -> None:
    graphs = []
    for blocks in (4, 9):
        torch._dynamo.reset()
        counters.clear()
        model = random_model(as_dit(SHAPE, blocks), torch.float32)
        model.compile_iterations(backend="eager")
        sampled(model, 1)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SHAPE, as_dit(SHAPE, 4)], ids=["fpdm", "dit"])
def test_of_the_same_values_and_gradients(shape: TransformerConfig) -> None:
    plain, model = random_model(shape, torch.float32), random_model(shape, torch.float32)
    model.compile_iterations(backend="aot_eager")
    torch.testing.assert_close(sampled(model, 3), sampled(plain, 3))
    for one in (plain, model):
        train(one, 1, 2)
    for (name, theirs), ours in zip(plain.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_a_copy_iterates_with_its_own_weights() -> None:
    model = random_model(SHAPE, torch.float32)
    model.compile_iterations(backend="eager")
    before, twin = sampled(model, 2), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.middle.parameters():
            parameter.mul_(1.5)
    assert torch.equal(sampled(model, 2), before)
    assert not torch.allclose(sampled(twin, 2), before)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_default_compiler_gives_the_same_values() -> None:
    plain, model = random_model(SHAPE, torch.float32), random_model(SHAPE, torch.float32)
    model.compile_iterations()
    torch.testing.assert_close(sampled(model, 3), sampled(plain, 3), rtol=1e-4, atol=1e-5)
    train(model, 1, 2)
    before = counters["stats"]["unique_graphs"]
    train(model, 2, 1)
    sampled(model, 7)
    assert counters["stats"]["unique_graphs"] == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_graphs_of_one_iteration_give_the_same_values() -> None:
    plain, model = (random_model(SHAPE, torch.float32).to("cuda") for _ in range(2))  # type: ignore[arg-type]
    model.compile_iterations(graphs=True)
    with torch.no_grad():
        for iterations in (1, 4, 7):
            solver = functools.partial(solve, solver=Anderson(), stop=Stop(iterations))
            theirs, ours = (one(*(each.cuda() for each in inputs()), solver=solver).value for one in (plain, model))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_graphs_need_cuda_and_a_cpu_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(SHAPE, torch.float32)
    with pytest.raises(ValueError, match="the model is on cpu"):
        model.compile_iterations(graphs=True)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        model.compile_iterations()


class Conversions(TorchDispatchMode):
    """Counts the tensors that become Python numbers, which waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("solver", [Picard(), Picard(0.5), Anderson()], ids=["picard", "damped", "anderson"])
@pytest.mark.parametrize("measure", [False, True])
def test_a_solve_of_fixed_count_does_not_wait_for_the_device(solver: Any, measure: bool) -> None:
    model = random_model(SHAPE, torch.float32)
    fixed: list[Callable[..., Any]] = [
        functools.partial(solve, solver=solver, stop=Stop(6, measure=measure)),
        functools.partial(JacobianFree((0, 3), (1, 3), solver=solver).solve, n=2, m=2, measure=measure),
    ]
    for each in fixed:
        with Conversions() as found:
            model(*inputs(), solver=each)
        assert found.count == 0
    with Conversions() as found, torch.no_grad():
        model(*inputs(), solver=functools.partial(solve, solver=solver, stop=Stop(6, tol=1e-9)))
    assert found.count >= 6  # so this counts what it should
