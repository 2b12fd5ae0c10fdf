"""The loop: what it returns, when it stops, sample by sample, and what it does not do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fpdm.fixed_point.solve import Solution, Solver, Stop, relative_change, solve
from fpdm.fixed_point.solvers import Anderson, Picard
from tests.fixed_point.maps import LinearMap, contraction, iterate

SOLVERS = [Picard(), Picard(damping=0.7), Anderson()]


def loop(f: LinearMap, z: Tensor, max_iters: int, tol: float) -> tuple[Tensor, int, float]:
    """Plain iteration of one sample by the definition: (1, N) to the answer, its iterations and its residual."""
    residual = float("inf")
    for k in range(1, max_iters + 1):
        new = f(z)  # (1, N)
        residual = ((new - z).norm() / new.norm()).item()
        z = new  # (1, N)
        if residual <= tol:
            return z, k, residual
    return z, max_iters, residual


@pytest.mark.parametrize("solver", SOLVERS)
def test_finds_the_fixed_point_of_a_linear_map(solver: Solver) -> None:
    f = contraction(4, 6)
    solution = solve(f, torch.zeros(4, 6, dtype=torch.float64), solver=solver, stop=Stop(500, tol=1e-12))
    torch.testing.assert_close(solution.z, f.fixed_point(), rtol=1e-9, atol=1e-9)
    assert solution.residual is not None
    assert solution.residual.max() <= 1e-12


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 4),
    n=st.integers(1, 5),
    factor=st.floats(0.1, 1.2),  # above 1 it may diverge, and the loop must follow it all the same
    limits=st.lists(st.integers(1, 40), min_size=4, max_size=4),
    tol=st.sampled_from([1e-1, 1e-3, 1e-6]),
    seed=st.integers(0, 1000),
)
def test_plain_iteration_equals_the_definition(
    batch: int, n: int, factor: float, limits: list[int], tol: float, seed: int
) -> None:
    f = contraction(batch, n, factor=factor, seed=seed)
    z0 = torch.ones(batch, n, dtype=torch.float64)  # (B, N)
    solution = solve(f, z0, solver=Picard(), stop=Stop(torch.tensor(limits[:batch]), tol=tol))
    assert isinstance(solution.iters, Tensor)
    assert solution.residual is not None
    for i in range(batch):
        z, iters, residual = loop(f.sample(i), z0[i : i + 1], limits[i], tol)
        torch.testing.assert_close(solution.z[i : i + 1], z, rtol=1e-9, atol=1e-9)
        assert solution.iters[i] == iters
        assert solution.residual[i].item() == pytest.approx(residual, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(solver=st.sampled_from(SOLVERS), seed=st.integers(0, 1000), tol=st.sampled_from([1e-2, 1e-5]))
def test_a_samples_answer_does_not_depend_on_its_neighbours(solver: Solver, seed: int, tol: float) -> None:
    # Contractions of very different speed, so that samples stop at very different times.
    maps = [contraction(1, 4, factor=factor, seed=seed + i) for i, factor in enumerate((0.05, 0.5, 0.9, 0.98))]
    f = LinearMap(torch.cat([m.a for m in maps]), torch.cat([m.b for m in maps]))
    z0 = torch.full((4, 4), 3.0, dtype=torch.float64)  # (B, N)
    limits = torch.tensor([50, 50, 7, 50])  # (B,)
    together = solve(f, z0, solver=solver, stop=Stop(limits, tol=tol))
    assert isinstance(together.iters, Tensor)
    assert together.iters.unique().numel() > 1
    for i in range(4):
        alone = solve(f.sample(i), z0[i : i + 1], solver=solver, stop=Stop(int(limits[i]), tol=tol))
        assert isinstance(alone.iters, Tensor)
        assert alone.iters.item() == together.iters[i].item()
        torch.testing.assert_close(together.z[i : i + 1], alone.z, rtol=1e-8, atol=1e-8)


def test_a_converged_sample_keeps_its_answer_to_the_bit() -> None:
    f = contraction(2, 3)
    f = LinearMap(torch.stack([0.01 * f.a[0], f.a[1]]), f.b)
    z0 = torch.zeros(2, 3, dtype=torch.float64)  # (B, N)
    solution = solve(f, z0, solver=Picard(), stop=Stop(200, tol=1e-4))
    assert isinstance(solution.iters, Tensor)
    first, second = solution.iters.tolist()
    assert first < second
    assert torch.equal(solution.z[0], iterate(f, z0, first)[0])
    assert not torch.equal(solution.z[0], iterate(f, z0, second)[0])


@pytest.mark.parametrize("max_iters", [0, 1, 2, 17])
@pytest.mark.parametrize("measure", [False, True])
def test_without_a_tolerance_it_runs_exactly_as_often_as_told(max_iters: int, measure: bool) -> None:
    f, z0, calls = contraction(2, 3), torch.ones(2, 3, dtype=torch.float64), []

    def counted(z: Tensor) -> Tensor:
        calls.append(z)
        return f(z)

    solution = solve(counted, z0, solver=Picard(), stop=Stop(max_iters, measure=measure))
    assert len(calls) == max_iters == solution.iters
    assert torch.equal(solution.z, iterate(f, z0, max_iters))
    if measure and max_iters:
        assert solution.residual is not None
        change = iterate(f, z0, max_iters) - iterate(f, z0, max_iters - 1)  # (B, N)
        want = change.norm(dim=1) / solution.z.norm(dim=1)  # (B,)
        torch.testing.assert_close(solution.residual, want.float())
    else:
        assert solution.residual is None


class Operations(TorchDispatchMode):
    """Records the names of all operations: those that make the host wait for the device are among them."""

    WAITING = frozenset(
        {"_local_scalar_dense", "equal", "is_nonzero", "item", "nonzero", "masked_select", "_assert_async"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> int:
        return sum(name in self.WAITING for name in self.names)


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_a_tolerance_nothing_waits_for_the_device_and_no_residual_is_computed(solver: Solver) -> None:
    f, z0 = contraction(3, 4), torch.zeros(3, 4, dtype=torch.float64)
    with Operations() as plain:
        solve(f, z0, solver=solver, stop=Stop(8))
    with Operations() as measured:
        solve(f, z0, solver=solver, stop=Stop(8, measure=True))
    with Operations() as to_tolerance:
        solve(f, z0, solver=solver, stop=Stop(8, tol=1e-9))
    assert plain.waits == measured.waits == 0
    assert to_tolerance.waits == 9  # once before each iteration, and to find the end: so waiting is seen
    norm = "linalg_vector_norm"
    assert (plain.names.count(norm), measured.names.count(norm)) == (0, 2)


def test_the_last_iterate_is_the_answer_even_if_an_earlier_one_was_closer() -> None:
    # From near its fixed point at -1, z -> 2 z + 1 leaves: every residual is larger than the one before.
    def f(z: Tensor) -> Tensor:
        return 2 * z + 1  # (B, N)

    z0 = torch.tensor([[-1.001]], dtype=torch.float64)  # (1, 1)
    early, late = (solve(f, z0, solver=Picard(), stop=Stop(k, tol=1e-12)) for k in (3, 8))
    assert early.residual is not None
    assert late.residual is not None
    assert early.residual < late.residual
    assert late.z.item() == pytest.approx(-1 - 0.001 * 2**8, rel=1e-12)


def test_a_residual_of_nan_is_not_convergence() -> None:
    def f(z: Tensor) -> Tensor:
        return torch.stack([z[0] / 2, z[1] * float("nan"), z[2] / 2 + 1])  # (B, N)

    solution = solve(f, torch.ones(3, 2), solver=Picard(), stop=Stop(60, tol=1e-3))
    assert isinstance(solution.iters, Tensor)
    assert solution.residual is not None
    # 1 -> 1/2 -> 1/4 -> ... keeps a relative change of 1 and never converges; 1 -> 3/2 -> 7/4 -> ... does.
    assert solution.iters.tolist() == [60, 60, 9]
    assert solution.residual.isnan().tolist() == [False, True, False]
    assert solution.z.isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_a_start_that_is_the_answer_takes_one_iteration() -> None:
    zero = solve(lambda z: z, torch.zeros(2, 3), solver=Anderson(), stop=Stop(50, tol=1e-6))
    assert isinstance(zero.iters, Tensor)
    assert zero.residual is not None
    assert zero.iters.tolist() == [1, 1]
    assert zero.residual.tolist() == [0.0, 0.0]


def test_residuals_are_in_float32_whatever_the_type() -> None:
    old, new = torch.full((1, 4096), 1.0), torch.full((1, 4096), 1.0078125)  # (B, N), neighbours in bfloat16
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        residual = relative_change(new.to(dtype), old.to(dtype))  # (B,)
        assert residual.dtype == torch.float32
        assert residual.item() == pytest.approx(0.0078125 / 1.0078125, rel=1e-5)
    # float64 keeps differences that float32 would round to 0.
    one = torch.ones(1, 4, dtype=torch.float64)  # (B, N)
    assert relative_change(one + 1e-12, one).item() == pytest.approx(1e-12, rel=1e-3)


def test_any_shape_of_state() -> None:
    f = contraction(2, 6)
    z0 = torch.zeros(2, 3, 2, dtype=torch.float64)  # (B, 3, 2)
    got = solve(lambda z: f(z.flatten(1)).view_as(z), z0, solver=Anderson(), stop=Stop(80, tol=1e-10))
    torch.testing.assert_close(got.z.flatten(1), f.fixed_point(), rtol=1e-8, atol=1e-8)


def test_detach_cuts_the_graph_only() -> None:
    z = torch.ones(1, 1, requires_grad=True) * 2  # (1, 1)
    solution = Solution(z, 3, torch.ones(1))
    detached = solution.detach()
    assert not detached.z.requires_grad
    assert (detached.iters, detached.residual) == (3, solution.residual)
    assert torch.equal(detached.z, z)


@pytest.mark.parametrize(
    ("max_iters", "tol", "message"),
    [
        (-1, 0.0, "max_iters is -1"),
        (5, -1e-3, r"tol is -0\.001"),
        (5, float("nan"), "tol is nan"),
        (5, float("inf"), "tol is inf"),
        (torch.tensor([1, 2]), 0.0, "max_iters is a tensor and tol is 0"),
    ],
)
def test_mistakes_in_a_stop(max_iters: Any, tol: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stop(max_iters, tol=tol)
