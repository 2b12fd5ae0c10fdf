"""Gradients in float64, against autograd through a plain loop, finite differences and the truncated Neumann sum."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from torch import Tensor, nn

from fpdm.fixed_point.gradients import (
    FixedPointSolver,
    Implicit,
    JacobianFree,
    jfb,
    multistep_jfb,
    stochastic_jfb,
    unrolled,
)
from fpdm.fixed_point.solve import Solution, Stop, solve
from fpdm.fixed_point.solvers import Anderson, Picard
from fpdm.models.config import TransformerConfig
from fpdm.models.transformer import DiffusionTransformer
from tests.fixed_point.maps import iterate
from tests.oracle import network


@dataclass(frozen=True)
class Tanh:
    """z -> tanh(A z + b + x): a small nonlinear contraction with weights A, b and an input x."""

    a: Tensor  # (N, N)
    b: Tensor  # (N,)
    x: Tensor  # (B, N)

    def __call__(self, z: Tensor) -> Tensor:
        return torch.tanh(z @ self.a.T + self.b + self.x)  # (B, N)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return self.a, self.b, self.x


def tanh_map() -> Tanh:
    generator = torch.Generator().manual_seed(0)
    a, b, x = (torch.randn(size, generator=generator, dtype=torch.float64) for size in ((4, 4), (4,), (3, 4)))
    return Tanh((0.7 * a / torch.linalg.matrix_norm(a, 2)).requires_grad_(), b.requires_grad_(), x.requires_grad_())


def loss_of(z: Tensor) -> Tensor:
    return (z * torch.linspace(-1, 2, z.shape[-1], dtype=z.dtype)).sum() + (z**2).sum()


# A small FPDM with random weights everywhere, whose map contracts.

FPDM = TransformerConfig(image_size=4, in_channels=1, width=8, heads=2, num_classes=2)


@dataclass(frozen=True)
class Problem:
    model: DiffusionTransformer
    x: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    y: Tensor  # (B,)

    def loss(self, solver: FixedPointSolver) -> Tensor:
        prediction = self.model(self.x, self.t, self.y, solver=solver)
        assert prediction.variance is not None
        return loss_of(prediction.value) + loss_of(prediction.variance)

    def oracle_loss(self, weights: network.Weights, x: Tensor, iterations: int) -> Tensor:
        out = network.forward(weights, self.model.shape, x, self.t, self.y, iterations=iterations)
        assert out.variance is not None
        return loss_of(out.value) + loss_of(out.variance)


def fpdm_problem(shape: TransformerConfig = FPDM) -> Problem:
    model = DiffusionTransformer.from_shape(shape).double()
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(network.random_weights(sizes, seed=4, dtype=torch.float64, gain=0.7))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)  # (B, C, H, W)
    return Problem(model, x, torch.tensor([10, 600]), torch.tensor([0, 2]))


def directional_difference(
    loss: Callable[..., Tensor], leaves: tuple[Tensor, ...], directions: tuple[Tensor, ...]
) -> float:
    """The derivative along `directions` by central differences."""

    def at(step: float) -> float:
        with torch.no_grad():
            return loss(*(leaf + step * d for leaf, d in zip(leaves, directions, strict=True))).item()

    h = 1e-4
    return (at(h) - at(-h)) / (2 * h)


# Full unrolling.


@pytest.mark.parametrize("times", [1, 2, 5])
def test_unrolled_equals_autograd_through_the_loop(times: int) -> None:
    f = tanh_map()
    z0 = torch.ones(3, 4, dtype=torch.float64)  # (B, N)
    solution = unrolled(times).bind(0, 0)(f, z0)
    got = torch.autograd.grad(loss_of(solution.z), f.leaves)
    want = torch.autograd.grad(loss_of(iterate(f, z0, times)), f.leaves)
    assert solution.iters == times
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "shape",
    [FPDM, replace(FPDM, injection="linear", middle_blocks=2, timestep_everywhere=True)],
    ids=["paper", "linear, cell of two"],
)
def test_unrolled_equals_autograd_through_the_oracle_network(shape: TransformerConfig) -> None:
    problem = fpdm_problem(shape)
    problem.loss(unrolled(3).bind(0, 0)).backward()
    weights = {name: value.detach().clone().requires_grad_() for name, value in problem.model.state_dict().items()}
    x = problem.x.detach().clone().requires_grad_()  # (B, C, H, W)
    problem.oracle_loss(weights, x, 3).backward()
    torch.testing.assert_close(problem.x.grad, x.grad, rtol=1e-7, atol=1e-7)
    for name, parameter in problem.model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-7, atol=1e-7, msg=name)


# The exact gradient.

EXACT = Implicit(stop=Stop(200, tol=1e-13), backward_stop=Stop(200, tol=1e-13))


@pytest.mark.parametrize("solver", [Picard(), Anderson()])
def test_implicit_equals_finite_differences_on_a_small_map(solver: Any) -> None:
    f = tanh_map()
    z0 = torch.zeros(3, 4, dtype=torch.float64)  # (B, N)
    solution = replace(EXACT, solver=solver, backward_solver=solver).bind(0, 0)(f, z0)
    gradients = torch.autograd.grad(loss_of(solution.z), f.leaves)

    def loss(*leaves: Tensor) -> Tensor:
        return loss_of(iterate(Tanh(*leaves), z0, 300))

    for i, leaf in enumerate(f.leaves):
        for entry in range(leaf.numel()):
            directions = [torch.zeros_like(other) for other in f.leaves]
            directions[i].view(-1)[entry] = 1.0
            want = directional_difference(loss, f.leaves, tuple(directions))
            assert gradients[i].reshape(-1)[entry].item() == pytest.approx(want, rel=1e-5, abs=1e-7)


def test_implicit_equals_finite_differences_on_an_fpdm() -> None:
    problem = fpdm_problem()
    names = [name for name, _ in problem.model.named_parameters()]
    leaves = (problem.x, *problem.model.parameters())
    gradients = torch.autograd.grad(problem.loss(EXACT.bind(0, 0)), leaves)

    def loss(x: Tensor, *weights: Tensor, iterations: int = 25) -> Tensor:
        return problem.oracle_loss(dict(zip(names, weights, strict=True)), x, iterations)

    with torch.no_grad():  # the loop converges by about 0.3 an iteration; else this would compare something else
        assert loss(*leaves).item() == pytest.approx(loss(*leaves, iterations=40).item(), rel=1e-11)
    generator = torch.Generator().manual_seed(2)
    for i in range(len(leaves)):  # one direction for each tensor, so that a wrong one is named
        directions = [torch.zeros_like(leaf) for leaf in leaves]
        directions[i] = torch.randn(leaves[i].shape, generator=generator, dtype=torch.float64)
        want = directional_difference(loss, leaves, tuple(directions))
        got = (gradients[i] * directions[i]).sum().item()
        assert got == pytest.approx(want, rel=1e-5, abs=1e-6), ["x", *names][i]


def test_implicit_differs_from_a_short_unrolling() -> None:
    # So that the two tests above are seen to demand the inverse.
    f = tanh_map()
    z0 = solve(f, torch.zeros(3, 4, dtype=torch.float64), solver=Picard(), stop=Stop(200)).z.detach()  # (B, N)
    exact = torch.autograd.grad(loss_of(EXACT.solve(f, z0).z), f.a)[0]
    one_step = torch.autograd.grad(loss_of(unrolled(1).solve(f, z0, n=0, m=1).z), f.a)[0]
    many_steps = torch.autograd.grad(loss_of(unrolled(80).solve(f, z0, n=0, m=80).z), f.a)[0]
    torch.testing.assert_close(exact, many_steps, rtol=1e-6, atol=1e-6)
    assert (exact - one_step).norm() > 0.05 * exact.norm()


def test_implicit_warns_when_the_backward_solve_did_not_converge() -> None:
    f, z0 = tanh_map(), torch.zeros(3, 4, dtype=torch.float64)
    hasty = replace(EXACT, backward_solver=Picard(), backward_stop=Stop(2, tol=1e-12))
    with pytest.warns(RuntimeWarning, match="above its tolerance of 1e-12; the gradient is approximate"):
        loss_of(hasty.solve(f, z0).z).backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_of(EXACT.solve(f, z0).z).backward()


def test_implicit_without_gradient_is_a_plain_solve() -> None:
    f, z0 = tanh_map(), torch.zeros(3, 4, dtype=torch.float64)
    with torch.no_grad():
        solution = EXACT.solve(f, z0)
        torch.testing.assert_close(solution.z, iterate(f, z0, 300))
    assert not solution.z.requires_grad


# Jacobian-free gradients.


@dataclass(frozen=True)
class Linear:
    """z -> A z + u + b, with the same A and b for all samples; the gradient of <g, z> is known in closed form."""

    a: Tensor  # (N, N)
    u: Tensor  # (B, N)
    b: Tensor  # (N,)
    g: Tensor  # (B, N)

    def __call__(self, z: Tensor) -> Tensor:
        return z @ self.a.T + self.u + self.b  # (B, N)

    def fixed_point(self) -> Tensor:
        eye = torch.eye(len(self.a), dtype=self.a.dtype)  # (N, N)
        return torch.linalg.solve(eye - self.a, (self.u + self.b).T).T.detach()  # (B, N)

    def neumann(self, shares: list[float]) -> Tensor:
        """The sum of shares[j] (A^T)^j g over j, (B, N)."""
        total, power = torch.zeros_like(self.g), self.g  # (B, N)
        for share in shares:
            total, power = total + share * power, power @ self.a  # (B, N)
        return total.detach()


def linear_map() -> Linear:
    generator = torch.Generator().manual_seed(0)
    a, u, b, g = (
        torch.randn(size, generator=generator, dtype=torch.float64) for size in ((3, 3), (2, 3), (3,), (2, 3))
    )
    return Linear(
        (0.8 * a / torch.linalg.matrix_norm(a, 2)).requires_grad_(), u.requires_grad_(), b.requires_grad_(), g
    )


@dataclass(frozen=True)
class Gradients:
    a: Tensor  # (N, N)
    u: Tensor  # (B, N)
    b: Tensor  # (N,)


def expected_gradients(f: Linear, z0: Tensor, gradient: JacobianFree, chances: np.ndarray) -> Gradients:
    """The mean over every (n, m) there is; `chances` (n, m)."""
    total = [torch.zeros_like(leaf) for leaf in (f.a, f.u, f.b)]
    first_n, first_m = gradient.no_grad[0], gradient.with_grad[0]
    for i, j in itertools.product(*map(range, chances.shape)):
        z = gradient.solve(f, z0, n=first_n + i, m=first_m + j).z  # (B, N)
        for sum_, g in zip(total, torch.autograd.grad((z * f.g).sum(), (f.a, f.u, f.b)), strict=True):
            sum_ += chances[i, j] * g
    return Gradients(*total)


@pytest.mark.parametrize(("N", "M"), [(0, 1), (3, 1), (0, 4), (3, 3), (2, 6)])
def test_stochastic_jfb_is_a_truncated_neumann_sum_in_expectation(N: int, M: int) -> None:
    f = linear_map()
    shares = [1 - j / M for j in range(M)]
    want = f.neumann(shares)  # (B, N)
    chances = np.full((N + 1, M), 1 / ((N + 1) * M))
    anywhere = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # (B, N)
    for z0 in (f.fixed_point(), anywhere):
        got = expected_gradients(f, z0, stochastic_jfb(N, M), chances)
        torch.testing.assert_close(got.u, want, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got.b, want.sum(0), rtol=1e-12, atol=1e-12)
    # For the weights on z it holds from z* only.
    z_star = f.fixed_point()  # (B, N)
    got = expected_gradients(f, z_star, stochastic_jfb(N, M), chances)
    torch.testing.assert_close(got.a, want.T @ z_star, rtol=1e-10, atol=1e-10)
    elsewhere = expected_gradients(f, anywhere, stochastic_jfb(N, M), chances)
    assert (elsewhere.a - want.T @ z_star).norm() > 1e-2


def test_weighted_draws_weigh_the_neumann_sum() -> None:
    f = linear_map()
    weights = (1.0, 0.0, 3.0)  # m is 2, 3 or 4
    gradient = JacobianFree((1, 2), (2, 4), with_grad_weights=weights)
    chances = np.outer([0.5, 0.5], np.array(weights) / 4)
    got = expected_gradients(f, torch.zeros(2, 3, dtype=torch.float64), gradient, chances)
    # Term j counts where m > j: always for 0 and 1, then with the chance of m = 4.
    torch.testing.assert_close(got.u, f.neumann([1.0, 1.0, 0.75, 0.75]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("start_with_gradient", [False, True])
def test_iterations_without_gradient_change_the_value_but_leave_no_graph(start_with_gradient: bool) -> None:
    f = tanh_map()
    z0 = torch.ones(3, 4, dtype=torch.float64, requires_grad=start_with_gradient)  # (B, N)
    with_graph = []

    def watched(z: Tensor) -> Tensor:
        image = f(z)  # (B, N)
        with_graph.append(image.requires_grad)
        return image

    solution = stochastic_jfb(9, 9).solve(watched, z0, n=5, m=2)
    assert with_graph == [False] * 5 + [True] * 2
    assert torch.equal(solution.z, iterate(f, z0, 7))
    want = torch.autograd.grad(loss_of(iterate(f, iterate(f, z0, 5).detach(), 2)), f.leaves)
    for one, other in zip(torch.autograd.grad(loss_of(solution.z), f.leaves, retain_graph=True), want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    if start_with_gradient:
        for n in (0, 5):
            z = stochastic_jfb(9, 9).solve(f, z0, n=n, m=2).z  # (B, N)
            assert torch.autograd.grad(loss_of(z), z0, allow_unused=True)[0] is None


def test_a_gradient_into_the_start_is_that_of_the_plain_loop_where_nothing_went_before() -> None:
    f = tanh_map()
    z0 = torch.full((3, 4), 0.3, dtype=torch.float64, requires_grad=True)  # (B, N)
    gradient = replace(stochastic_jfb(9, 9), into_start=True)
    leaves = (*f.leaves, z0)
    got = torch.autograd.grad(loss_of(gradient.solve(f, z0, n=0, m=2).z), leaves)
    want = torch.autograd.grad(loss_of(iterate(f, z0, 2)), leaves)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    after = gradient.solve(f, z0, n=1, m=2).z  # (B, N)
    assert torch.autograd.grad(loss_of(after), z0, allow_unused=True)[0] is None


@pytest.mark.parametrize("into_start", [False, True])
def test_the_pre_blocks_learn_through_the_start_only_where_asked(into_start: bool) -> None:
    problem = fpdm_problem()
    with torch.no_grad():  # nothing is injected, so the start is the only way left
        for name, parameter in problem.model.named_parameters():
            if name.startswith("middle.injection.project"):
                parameter.zero_()
    problem.loss(replace(unrolled(2), into_start=into_start).bind(0, 0)).backward()
    reached = [
        bool(p.grad.any()) for n, p in problem.model.named_parameters() if n.startswith("pre.") and p.grad is not None
    ]
    assert any(reached) == into_start


def test_constructors_are_ranges() -> None:
    assert stochastic_jfb(12, 6) == JacobianFree((0, 12), (1, 6))
    assert jfb(12) == JacobianFree((12, 12), (1, 1))
    assert multistep_jfb(12, 6) == JacobianFree((12, 12), (6, 6))
    assert unrolled(6) == JacobianFree((0, 0), (6, 6))


def test_measured_residual_is_that_of_the_last_iteration() -> None:
    f, z0 = tanh_map(), torch.ones(3, 4, dtype=torch.float64)
    solution = unrolled(1).solve(f, z0, n=3, m=2, measure=True)
    change = (iterate(f, z0, 5) - iterate(f, z0, 4)).norm(dim=1) / iterate(f, z0, 5).norm(dim=1)  # (B,)
    assert solution.residual is not None
    assert not solution.residual.requires_grad
    torch.testing.assert_close(solution.residual, change.float().detach())
    assert unrolled(1).solve(f, z0, n=3, m=2).residual is None
    bound = multistep_jfb(3, 2).bind(0, 0, measure=True)(f, z0)
    assert bound.residual is not None
    assert torch.equal(bound.residual, solution.residual)


# The draws.


def test_draws_are_a_function_of_seed_and_step() -> None:
    gradient = stochastic_jfb(12, 12)
    draws = [gradient.draw(7, step) for step in range(200)]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # what others draw must not matter
    assert [stochastic_jfb(12, 12).draw(7, step) for step in reversed(range(200))] == draws[::-1]
    assert [gradient.draw(8, step) for step in range(200)] != draws
    assert len(set(draws)) > 100


def test_bind_runs_the_draw() -> None:
    f, z0, gradient = tanh_map(), torch.ones(3, 4, dtype=torch.float64), stochastic_jfb(5, 4)
    for step in range(20):
        n, m = gradient.draw(3, step)
        solution = gradient.bind(3, step)(f, z0)
        assert (solution.iters, solution.no_grad_iters) == (n + m, n)
        assert torch.equal(solution.z, iterate(f, z0, n + m))


def test_uniform_draws_are_uniform_and_independent() -> None:
    gradient = JacobianFree((2, 6), (1, 4))
    table = np.zeros((5, 4))
    for step in range(4000):
        n, m = gradient.draw(0, step)
        table[n - 2, m - 1] += 1
    assert chisquare(table.sum(1)).pvalue > 1e-3
    assert chisquare(table.sum(0)).pvalue > 1e-3
    assert chi2_contingency(table).pvalue > 1e-3


def test_weighted_draws_follow_their_weights() -> None:
    weights = (0.5, 0.0, 2.0, 1.5)  # they need not sum to 1
    gradient = JacobianFree((0, 3), (1, 4), no_grad_weights=weights, with_grad_weights=weights[::-1])
    counts = np.zeros((2, 4))
    for step in range(4000):
        n, m = gradient.draw(1, step)
        counts[0, n] += 1
        counts[1, m - 1] += 1
    assert counts[0, 1] == counts[1, 2] == 0
    expected = np.array([0.5, 2.0, 1.5]) * 1000
    assert chisquare(np.delete(counts[0], 1), expected).pvalue > 1e-3
    assert chisquare(np.delete(counts[1], 2), expected[::-1]).pvalue > 1e-3


# Memory and precision.


def saved_bytes(problem: Problem, n: int, m: int) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage counted once."""
    storages: dict[int, Any] = {}  # they are held, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        problem.loss(functools.partial(stochastic_jfb(1, 1).solve, n=n, m=m))
    return sum(storage.nbytes() for storage in storages.values())


def test_saved_bytes_grow_with_m_and_not_with_n() -> None:
    problem = fpdm_problem()
    assert saved_bytes(problem, 1, 1) == saved_bytes(problem, 2, 1) == saved_bytes(problem, 40, 1)
    assert saved_bytes(problem, 0, 3) <= saved_bytes(problem, 40, 3)
    one, two, three = (saved_bytes(problem, 3, m) for m in (1, 2, 3))
    assert two - one == three - two > 0
    # An iteration keeps at least its tokens, its hidden 2D and its block's hidden 4D.
    assert two - one > 2 * FPDM.tokens * 7 * FPDM.width * 8


@pytest.mark.parametrize(
    "solver",
    [functools.partial(unrolled(1).solve, n=3, m=2), Implicit(Picard(), Stop(5), Picard(), Stop(5)).solve],
    ids=["jacobian-free", "implicit"],
)
def test_weights_learn_under_autocast_after_iterations_without_gradient(solver: FixedPointSolver) -> None:
    # Older versions of torch keep the bfloat16 weights that autocast made without a graph, and use them again.
    problem = fpdm_problem()
    model = problem.model.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = model(problem.x.detach().float(), problem.t, problem.y, solver=solver)
    loss_of(prediction.value).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("middle."):
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


# Mistakes.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"no_grad": (-1, 3)}, r"no_grad is \(-1, 3\); expected 0 <= lo <= hi"),
        ({"no_grad": (3, 2)}, r"no_grad is \(3, 2\)"),
        ({"with_grad": (0, 3)}, r"with_grad is \(0, 3\); expected 1 <= lo <= hi"),
        ({"with_grad": (4, 3)}, r"with_grad is \(4, 3\)"),
        ({"no_grad_weights": (1.0, 1.0)}, r"no_grad_weights has 2 entries; expected 3, one for each of 0\.\.2"),
        ({"with_grad_weights": (1.0, -1.0, 1.0)}, r"with_grad_weights is \(1\.0, -1\.0, 1\.0\)"),
        ({"with_grad_weights": (0.0, 0.0, 0.0)}, "not all 0"),
        ({"with_grad_weights": (1.0, float("nan"), 1.0)}, "expected finite numbers"),
        ({"with_grad_weights": (1.0, float("inf"), 1.0)}, "expected finite numbers"),
    ],
)
def test_mistakes_in_the_ranges(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(JacobianFree((0, 2), (1, 3)), **fields)


def test_a_frozen_map_is_refused() -> None:
    layer = nn.Linear(4, 4).requires_grad_(False)
    z0 = torch.zeros(2, 4, requires_grad=True)  # (B, N)
    with pytest.raises(ValueError, match="depends on nothing that requires a gradient"):
        unrolled(2).bind(0, 0)(layer, z0)
    with torch.no_grad():
        assert isinstance(unrolled(2).bind(0, 0)(layer, z0), Solution)
