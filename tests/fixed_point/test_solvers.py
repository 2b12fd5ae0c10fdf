"""Damping against the damped formula; Anderson against its definition by least squares, and where it must fall back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fpdm.fixed_point.solve import Map, Stop, solve
from fpdm.fixed_point.solvers import Anderson, Picard
from tests.fixed_point.maps import LinearMap, contraction, iterate


def anderson(f: LinearMap, z: Tensor, *, memory: int, mixing: float, times: int) -> Tensor:
    """One sample (1, N) by Walker and Ni's difference form: an unconstrained least-squares problem a step."""
    xs: list[np.ndarray] = []
    ys: list[np.ndarray] = []
    for _ in range(times):
        xs, ys = [*xs, z[0].numpy()][-memory:], [*ys, f(z)[0].numpy()][-memory:]  # of (N,)
        x, y = np.stack(xs, 1), np.stack(ys, 1)  # (N, k)
        residual = y - x  # (N, k)
        gamma = np.linalg.lstsq(np.diff(residual, axis=1), residual[:, -1], rcond=None)[0]  # (k - 1,)
        mean_x, mean_y = x[:, -1] - np.diff(x, axis=1) @ gamma, y[:, -1] - np.diff(y, axis=1) @ gamma  # (N,)
        z = torch.from_numpy((1 - mixing) * mean_x + mixing * mean_y)[None]  # (1, N)
    return z


def run(f: Map, z0: Tensor, solver: Picard | Anderson, times: int) -> Tensor:
    return solve(f, z0, solver=solver, stop=Stop(times)).z


@settings(max_examples=20, deadline=None)
@given(damping=st.floats(0.05, 1.0), times=st.integers(0, 10), seed=st.integers(0, 1000))
def test_damping_equals_its_formula(damping: float, times: int, seed: int) -> None:
    f = contraction(2, 3, seed=seed)
    z0 = torch.ones(2, 3, dtype=torch.float64)  # (B, N)
    want = iterate(lambda z: (1 - damping) * z + damping * f(z), z0, times)  # (B, N)
    torch.testing.assert_close(run(f, z0, Picard(damping), times), want, rtol=1e-12, atol=1e-12)


def test_damping_tames_an_oscillation() -> None:
    f = LinearMap(torch.tensor([[[-1.5]]]), torch.tensor([[1.0]]))  # fixed point 0.4
    z0 = torch.zeros(1, 1)  # (1, 1)
    assert run(f, z0, Picard(), 30).abs().item() > 1e3
    assert run(f, z0, Picard(damping=0.5), 30).item() == pytest.approx(0.4)


@settings(max_examples=25, deadline=None)
@given(
    memory=st.integers(1, 4),
    mixing=st.sampled_from([0.3, 1.0]),
    times=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_anderson_equals_its_definition(memory: int, mixing: float, times: int, seed: int) -> None:
    f = contraction(3, 8, seed=seed)
    z0 = torch.ones(3, 8, dtype=torch.float64)  # (B, N)
    got = run(f, z0, Anderson(memory, mixing, ridge=0.0), times)  # (B, N)
    for i in range(3):
        want = anderson(f.sample(i), z0[i : i + 1], memory=memory, mixing=mixing, times=times)  # (1, N)
        torch.testing.assert_close(got[i : i + 1], want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_anderson_solves_n_dimensions_in_n_plus_one_steps(n: int) -> None:
    f = contraction(4, n, factor=0.95, seed=n)
    z0 = torch.zeros(4, n, dtype=torch.float64)  # (B, N)

    def error(solver: Picard | Anderson, times: int) -> float:
        want = f.fixed_point()  # (B, N)
        return ((run(f, z0, solver, times) - want).norm(dim=1) / want.norm(dim=1)).max().item()

    exact = Anderson(memory=n + 1, ridge=1e-14)
    assert error(exact, n + 1) < 1e-8
    if n > 1:
        assert error(exact, n) > 1e-4  # one step fewer does not do
    assert error(Anderson(memory=n + 1), n + 1) < 1e-3  # with the default ridge
    assert error(Picard(), n + 1) > 1e-2


def test_anderson_beats_plain_iteration_where_that_is_slow() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 40, 40, generator=generator, dtype=torch.float64)  # (B, N, N)
    a = a + a.mT  # symmetric: its spectral radius is its norm
    f = LinearMap(0.97 * a / torch.linalg.matrix_norm(a, 2)[:, None, None], torch.ones(2, 40, dtype=torch.float64))
    z0 = torch.zeros(2, 40, dtype=torch.float64)  # (B, N)
    plain, accelerated = (solve(f, z0, solver=s, stop=Stop(2000, tol=1e-8)) for s in (Picard(), Anderson()))
    assert isinstance(plain.iters, Tensor)
    assert isinstance(accelerated.iters, Tensor)
    assert (accelerated.iters * 4 < plain.iters).all()
    torch.testing.assert_close(accelerated.z, f.fixed_point(), rtol=1e-5, atol=1e-5)


def test_anderson_without_memory_is_damped_iteration() -> None:
    f = contraction(2, 3)
    z0 = torch.ones(2, 3, dtype=torch.float64)  # (B, N)
    torch.testing.assert_close(run(f, z0, Anderson(memory=1, mixing=0.4), 6), run(f, z0, Picard(0.4), 6))


def bad_samples(z: Tensor) -> Tensor:
    """One map a sample: a good one, equal residuals (a singular system), none at all, and nan."""
    return torch.stack([z[0].cos(), z[1] + 1, z[2], z[3] * float("nan")])  # (B, N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_system_that_cannot_be_solved_becomes_a_plain_step_and_harms_no_neighbour(dtype: torch.dtype) -> None:
    z0 = torch.zeros(4, 2, dtype=dtype)  # (B, N)
    for times in range(1, 8):
        got = run(bad_samples, z0, Anderson(ridge=0.0), times)  # (B, N)
        plain = run(bad_samples, z0, Picard(), times)  # (B, N)
        alone = run(torch.cos, z0[:1], Anderson(ridge=0.0), times)  # (1, N)
        torch.testing.assert_close(got[:1], alone, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(got[1:], plain[1:], equal_nan=True)


def test_an_iterate_that_is_infinite_does_not_spoil_the_next() -> None:
    def f(z: Tensor) -> Tensor:
        return torch.stack([1 / z[0], z[1].cos()])  # (B, N); the first goes 0, inf, 0, inf, ...

    z0 = torch.zeros(2, 2)  # (B, N)
    for times in range(1, 8):
        got = run(f, z0, Anderson(), times)  # (B, N)
        assert torch.equal(got[0], run(f, z0, Picard(), times)[0])
        torch.testing.assert_close(got[1:], run(torch.cos, z0[1:], Anderson(), times))


def test_equal_residuals_stay_finite_with_the_default_ridge() -> None:
    got = run(lambda z: z + 1, torch.zeros(2, 3), Anderson(), 12)  # (B, N)
    assert got.isfinite().all()
    assert (got > 1).all()


def test_anderson_in_bfloat16_solves_in_float32() -> None:
    f = contraction(2, 3, factor=0.9)
    narrow = LinearMap(f.a.bfloat16(), f.b.bfloat16())
    got = run(narrow, torch.zeros(2, 3, dtype=torch.bfloat16), Anderson(), 12)  # (B, N)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), f.fixed_point(), rtol=0.1, atol=0.1)


def test_anderson_under_autocast() -> None:
    f = contraction(2, 3, factor=0.9)
    single = LinearMap(f.a.float(), f.b.float())
    z0 = torch.zeros(2, 3)  # (B, N)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(single, z0, Anderson(), 12)  # (B, N)
    torch.testing.assert_close(got.double(), f.fixed_point(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("damping", [0.0, -0.5, 1.5, float("nan")])
def test_mistakes_in_picard(damping: float) -> None:
    with pytest.raises(ValueError, match=f"damping is {damping}"):
        Picard(damping)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory": 0}, "memory is 0"),
        ({"mixing": 0.0}, r"mixing is 0\.0"),
        ({"mixing": 1.01}, r"mixing is 1\.01"),
        ({"ridge": -1e-9}, "ridge is -1e-09"),
        ({"ridge": float("nan")}, "ridge is nan"),
    ],
)
def test_mistakes_in_anderson(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Anderson(**fields)  # type: ignore[arg-type]
