"""What a freshly made model is: zero outputs, a bare MLP as the map, and gradients that flow where they should."""

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
from fpdm.models.transformer import DiffusionTransformer
from tests.oracle import network

FPDM = TransformerConfig(image_size=8, in_channels=2, width=32, heads=4, num_classes=5)


def fresh(shape: TransformerConfig) -> DiffusionTransformer:
    torch.manual_seed(0)
    return DiffusionTransformer.from_shape(shape)


@pytest.mark.parametrize(
    "shape", [FPDM, replace(FPDM, injection="linear"), as_dit(FPDM, 4)], ids=["mlp", "linear", "dit"]
)
def test_the_output_is_zero(shape: TransformerConfig) -> None:
    model = fresh(shape)
    prediction = model(
        torch.randn(2, 2, 8, 8), torch.tensor([1, 999]), torch.tensor([0, 5]), solver=unrolled(2).bind(0, 0)
    )
    assert not prediction.value.any()
    assert not prediction.variance.any()
    assert prediction.solution.z.abs().min() > 0


def test_what_learns_first() -> None:
    model = fresh(FPDM)
    torch.nn.init.normal_(model.head.linear.weight)
    prediction = model(
        torch.randn(2, 2, 8, 8), torch.tensor([1, 999]), torch.tensor([0, 4]), solver=unrolled(2).bind(0, 0)
    )
    (prediction.value.square().sum() + prediction.variance.square().sum()).backward()
    # The insides of a block wait for adaLN to open its gates, and so does the conditioning.
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    expected = {
        name for name, _ in model.named_parameters() if "adaLN" in name or "injection" in name or "x_embedder" in name
    }
    assert expected <= learning
    assert any(name.startswith("pre.0.adaLN") for name in expected)


def test_initial_distributions() -> None:
    model = fresh(replace(FPDM, width=128, image_size=8, num_classes=500))
    for name, p in model.named_parameters():
        values = p.detach()
        if "adaLN" in name or "head.linear" in name or name.endswith("bias"):
            assert not values.any(), name
        elif "t_embedder" in name or "y_embedder" in name:
            assert values.std().item() == pytest.approx(0.02, rel=0.05), name
        else:  # Xavier: uniform with variance 2 / (fan_in + fan_out)
            matrix = values.flatten(1)
            bound = (6 / sum(matrix.shape)) ** 0.5
            assert matrix.abs().max().item() <= bound, name
            assert matrix.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name


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
