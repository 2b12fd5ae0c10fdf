"""The middle: a stack of blocks or a fixed-point layer; its map, its start, and the gradients through both."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fpdm.fixed_point.gradients import FixedPointSolver, unrolled
from fpdm.fixed_point.solve import Map, Solution, Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.middle import FixedPointLayer, MLPInjection
from fpdm.models.transformer import DiffusionTransformer
from tests.models.random_models import random_batch, random_model, run
from tests.oracle import network

FPDM = TransformerConfig(image_size=8, in_channels=2, width=32, heads=4, num_classes=5)


def fresh(shape: TransformerConfig) -> DiffusionTransformer:
    torch.manual_seed(0)
    return DiffusionTransformer.from_shape(shape)


def capture(model: DiffusionTransformer, x: Tensor) -> tuple[Map, Tensor]:
    """The fixed-point map of this batch, and its start."""
    captured: list[tuple[Map, Tensor]] = []

    def solver(f: Map, z0: Tensor) -> Solution:
        captured.append((f, z0))
        return Solution(z0, 0)

    with torch.no_grad():
        model(x, torch.arange(len(x)), solver=solver)
    return captured[0]


def test_the_map_is_the_bare_mlp() -> None:
    model, x = fresh(FPDM).double(), torch.randn(2, 2, 8, 8, dtype=torch.float64)  # (B, C, H, W)
    f, x_pre = capture(model, x)
    z = torch.randn_like(x_pre)  # (B, T, D)
    w, name = model.state_dict(), "middle.injection"
    u = network.linear(x_pre, w, f"{name}.project")  # (B, T, D)
    hidden = network.gelu_tanh(network.linear(torch.cat([z, u], 2), w, f"{name}.fc1"))  # (B, T, 2D)
    with torch.no_grad():
        torch.testing.assert_close(f(z), network.linear(hidden, w, f"{name}.fc2"), rtol=1e-12, atol=1e-12)


def test_the_linear_injection_starts_as_the_mean() -> None:
    f, x_pre = capture(fresh(replace(FPDM, injection="linear")), torch.randn(2, 2, 8, 8))
    z = torch.randn_like(x_pre)  # (B, T, D)
    torch.testing.assert_close(f(z), z / 2 + x_pre / 2)


def test_the_map_contracts_by_about_a_half_at_width_384() -> None:
    f, z = capture(fresh(replace(FPDM, width=384, heads=6, image_size=4)), torch.randn(2, 2, 4, 4))
    changes = []
    with torch.no_grad():
        for _ in range(12):
            new = f(z)  # (B, T, D)
            changes.append((new - z).norm().item())
            z = new  # (B, T, D)
        rates = [after / before for before, after in itertools.pairwise(changes)]
    assert all(0.45 < rate < 0.6 for rate in rates)
    # The bare MLP works token by token, so one token's Jacobian at the fixed point says it all.
    jacobian = torch.autograd.functional.jacobian(
        lambda token: f(torch.cat([token.view(1, 1, -1), z[:1, 1:]], 1).expand_as(z))[0, 0], z[0, 0]
    )  # (D, D)
    radius = torch.linalg.eigvals(jacobian).abs().max().item()
    assert 0.45 < radius < 0.65


@pytest.mark.parametrize(
    ("solver", "cut_off"),
    [
        (unrolled(2).bind(0, 0), True),
        (replace(unrolled(2), into_start=True).bind(0, 0), False),
        (functools.partial(solve, solver=Picard(), stop=Stop(2)), False),
    ],
    ids=["training's", "into the start", "one that keeps the start's graph"],
)
def test_pre_blocks_learn_through_the_injection_and_where_asked_the_start(
    solver: FixedPointSolver, cut_off: bool
) -> None:
    shape = replace(FPDM, width=16)
    model = DiffusionTransformer.from_shape(shape).double()
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    weights = network.random_weights(sizes, seed=3, dtype=torch.float64)
    model.load_state_dict(weights)
    x, t, y = torch.randn(2, 2, 8, 8, dtype=torch.float64), torch.tensor([5, 700]), torch.tensor([1, 5])
    model(x, t, y, solver=solver).value.square().sum().backward()
    name = "pre.0.mlp.fc1.weight"
    got = model.get_parameter(name).grad

    def oracle_gradient(detached: bool) -> Tensor:
        leaf = weights[name].clone().requires_grad_()
        own = weights | {name: leaf}
        start = network.before_middle(own, shape, x, t, y)  # (B, T, D)
        out = network.forward(own, shape, x, t, y, iterations=2, z0=start.detach() if detached else start)
        return torch.autograd.grad(out.value.square().sum(), leaf)[0]

    detached, attached = oracle_gradient(True), oracle_gradient(False)
    torch.testing.assert_close(got, detached if cut_off else attached, rtol=1e-8, atol=1e-8)
    assert (attached - detached).norm() > 1e-2 * detached.norm()  # else the line above says nothing


SHAPE = TransformerConfig(image_size=6, in_channels=3, patch_size=2, width=16, heads=2, num_classes=5)
DIT = as_dit(SHAPE, 4)


@pytest.mark.parametrize("iterations", [0, 1, 2, 9])
def test_any_number_of_iterations_from_any_start(iterations: int) -> None:
    model, batch = random_model(SHAPE, torch.float64), random_batch(SHAPE, torch.float64)
    z0 = torch.randn(3, SHAPE.tokens, SHAPE.width, dtype=torch.float64)  # (B, T, D)
    got = run(model, batch, iterations, z0)
    want = network.forward(model.state_dict(), SHAPE, batch.x, batch.t, batch.y, iterations=iterations, z0=z0)
    torch.testing.assert_close(got.value, want.value, rtol=1e-8, atol=1e-8)
    assert got.solution.iters == iterations


def test_continuing_from_a_solution_equals_going_on() -> None:
    model, batch = random_model(SHAPE, torch.float64), random_batch(SHAPE, torch.float64)
    first = run(model, batch, 2)
    torch.testing.assert_close(run(model, batch, 3, first.solution.z).value, run(model, batch, 5).value)


def test_a_stack_ignores_start_and_solver() -> None:
    model, batch = random_model(DIT, torch.float64), random_batch(DIT, torch.float64)
    one, other = run(model, batch, 1), run(model, batch, 7, torch.randn(3, DIT.tokens, DIT.width, dtype=torch.float64))
    assert torch.equal(one.value, other.value)
    assert one.solution.iters == other.solution.iters == 2


def test_a_start_of_another_shape_is_refused() -> None:
    model, batch = random_model(SHAPE, torch.float64), random_batch(SHAPE, torch.float64)
    with pytest.raises(ValueError, match=r"z0 has shape \(1, 9, 16\); expected \(3, 9, 16\)"):
        run(model, batch, 1, torch.zeros(1, 9, 16, dtype=torch.float64))


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, injection="linear", middle_blocks=2)])
def test_under_autocast_the_iterates_stay_float32_as_a_stacks_hidden_state_does(shape: TransformerConfig) -> None:
    batch = random_batch(shape, torch.float32)
    for one in (shape, as_dit(shape, 4)):
        model = random_model(one, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            solution = run(model, batch, 2).solution
        assert solution.z.dtype == torch.float32


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, injection="linear", middle_blocks=2)], ids=["mlp", "linear"])
def test_an_iteration_split_into_its_constant_part_and_the_rest_equals_the_oracles(shape: TransformerConfig) -> None:
    model = random_model(shape, torch.float64)
    z, x = torch.randn(2, 3, shape.tokens, shape.width, dtype=torch.float64)  # (B, T, D) each
    c = torch.randn(3, shape.width, dtype=torch.float64)  # (B, D)
    assert isinstance(model.middle, FixedPointLayer)
    with torch.no_grad():
        context = model.middle.prepare(x, c)
        for _ in range(2):
            want = network.iteration(model.state_dict(), shape, z, x, c)  # (B, T, D)
            z = model.middle.iterate(z, context)  # (B, T, D)
            torch.testing.assert_close(z, want, rtol=1e-10, atol=1e-10)


def test_what_does_not_change_over_the_iterations_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = random_model(SHAPE, torch.float64), random_batch(SHAPE, torch.float64)
    calls: list[str] = []
    for module, name in ((MLPInjection, "prepare"), (FixedPointLayer, "iterate")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, f=original, n=name: calls.append(n) or f(*args))
    model.middle.get_submodule("cell.0.adaLN_modulation").register_forward_hook(lambda *_: calls.append("modulation"))
    run(model, batch, 4)
    assert calls == ["modulation", "prepare", *["iterate"] * 4]


@pytest.mark.parametrize(("shape", "prefix"), [(replace(SHAPE, middle_blocks=3), "cell"), (DIT, "blocks")])
def test_blocks_are_listed_once_in_the_order_of_their_application(shape: TransformerConfig, prefix: str) -> None:
    middle = random_model(shape, torch.float64).middle
    assert middle.listed() == [middle.get_submodule(f"{prefix}.{i}") for i in range(shape.middle_blocks)]


def test_a_stack_counts_every_application_of_a_block() -> None:
    shape = replace(DIT, repeats=3)
    solution = run(random_model(shape, torch.float64), random_batch(shape, torch.float64), 1).solution
    assert solution.iters == 2 * 3
