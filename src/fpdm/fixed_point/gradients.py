"""Gradients of fixed points.

`JacobianFree` is Stochastic Jacobian-Free Backpropagation (paper Sec. 3.4, Algorithm 1). JFB, multi-step JFB and full
unrolling are special cases of it. `Implicit` is the exact gradient, found by a second fixed-point solve in the backward
pass; it serves as a reference. Both provide a function `(f, z0) -> Solution` for each training step.
"""

from __future__ import annotations

import abc
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fpdm.fixed_point.solve import Map, Solution, Solver, Stop, solve
from fpdm.fixed_point.solvers import Anderson, Picard

FixedPointSolver = Callable[[Map, Tensor], Solution]
"""The solver that a model is called with: `(f, z0 (B, ...)) -> Solution`.

For example `functools.partial(solve, solver=Picard(), stop=Stop(5))`.
"""


class Gradient(abc.ABC):
    """A differentiable way to solve for a fixed point."""

    @abc.abstractmethod
    def bind(self, seed: int, step: int, *, measure: bool = False) -> FixedPointSolver:
        """Return the solver of training step `step`.

        It depends on the arguments only, so it is the same in every process. With `measure`, its solutions report the
        residual of the last iteration.
        """


@dataclass(frozen=True)
class JacobianFree(Gradient):
    """Iterate n times without gradient, then m times with gradient, and backpropagate through the last m only.

    n and m are drawn once per step for the whole batch, uniformly from their ranges or with the given weights. The n
    iterations store no activations. The start is only a guess, so no gradient flows into it; with `into_start` it does
    if n = 0, so that a map that is mostly applied once learns like a plain network.

    Attributes:
        no_grad: Inclusive range (lo, hi) of n; lo is at least 0.
        with_grad: Inclusive range (lo, hi) of m; lo is at least 1.
        no_grad_weights: One weight for each n from lo to hi; empty means uniform. They need not sum to 1.
        with_grad_weights: One weight for each m, likewise.
        solver: Solver of both phases.
        into_start: Let the gradient flow into z0 if n = 0 (not in the paper).

    Raises:
        ValueError: A range is empty or starts too low, or the number of weights does not match its range.
    """

    no_grad: tuple[int, int]
    with_grad: tuple[int, int]
    no_grad_weights: tuple[float, ...] = ()
    with_grad_weights: tuple[float, ...] = ()
    solver: Solver = field(default_factory=Picard)
    into_start: bool = False

    def __post_init__(self) -> None:
        for name, (lo, hi), least in (("no_grad", self.no_grad, 0), ("with_grad", self.with_grad, 1)):
            if not least <= lo <= hi:
                raise ValueError(f"{name} is ({lo}, {hi}); expected {least} <= lo <= hi")
            weights = getattr(self, f"{name}_weights")
            if not weights:
                continue
            if len(weights) != hi - lo + 1:
                raise ValueError(
                    f"{name}_weights has {len(weights)} entries; expected {hi - lo + 1}, one for each of {lo}..{hi}"
                )
            if not (all(0.0 <= w < float("inf") for w in weights) and sum(weights) > 0.0):
                raise ValueError(f"{name}_weights is {weights}; expected finite numbers of at least 0, not all 0")

    def draw(self, seed: int, step: int) -> tuple[int, int]:
        """Draw (n, m) of training step `step` from a generator seeded by (seed, step)."""
        rng = np.random.default_rng((seed, step))
        return self._draw_one(rng, self.no_grad, self.no_grad_weights), self._draw_one(
            rng, self.with_grad, self.with_grad_weights
        )

    @staticmethod
    def _draw_one(rng: np.random.Generator, bounds: tuple[int, int], weights: tuple[float, ...]) -> int:
        values = np.arange(bounds[0], bounds[1] + 1)
        return int(rng.choice(values, p=np.asarray(weights) / sum(weights) if weights else None))

    def bind(self, seed: int, step: int, *, measure: bool = False) -> FixedPointSolver:
        n, m = self.draw(seed, step)
        return functools.partial(self.solve, n=n, m=m, measure=measure)

    def solve(self, f: Map, z0: Tensor, *, n: int, m: int, measure: bool = False) -> Solution:
        """Solve with the given n and m (Algorithm 1, lines 3 to 6).

        Args:
            f: The map, (B, ...) to (B, ...).
            z0: Initial iterate, (B, ...).
            n: Number of iterations without gradient.
            m: Number of iterations with gradient.
            measure: Report the residual of the last iteration.

        Raises:
            ValueError: Gradients are enabled, but the solution depends on nothing that requires a gradient.
        """
        z = z0  # (B, ...)
        if n or not self.into_start:
            with torch.no_grad():
                # Detached, so that the first iteration is like the others for a compiler.
                z = solve(f, z0.detach(), solver=self.solver, stop=Stop(n)).z  # (B, ...)
        _clear_autocast_cache()
        solution = solve(f, z, solver=self.solver, stop=Stop(m, measure=measure))
        _check_has_gradient(solution.z)
        return Solution(solution.z, n + m, solution.residual, no_grad_iters=n)


def stochastic_jfb(N: int, M: int) -> JacobianFree:
    """Return stochastic JFB (Algorithm 1): n ~ U{0..N}, m ~ U{1..M}."""
    return JacobianFree((0, N), (1, M))


def jfb(N: int) -> JacobianFree:
    """Return JFB, the 1-step gradient: N iterations without gradient, one with (Fung et al. 2022; paper Table 4)."""
    return JacobianFree((N, N), (1, 1))


def multistep_jfb(N: int, M: int) -> JacobianFree:
    """Return multi-step JFB (paper Table 4): always N iterations without gradient and M with."""
    return JacobianFree((N, N), (M, M))


def unrolled(M: int) -> JacobianFree:
    """Return full backpropagation through M iterations. The weights of Anderson count as constants."""
    return JacobianFree((0, 0), (M, M))


@dataclass(frozen=True)
class Implicit(Gradient):
    """The exact gradient dL/dtheta = dL/dz* (I - J)^{-1} df/dtheta, J = df/dz at z*, by the implicit function theorem.

    The backward pass solves g = J^T g + dL/dz* with the same loop as the forward pass (the paper's printed equation
    lacks the inverse). It warns if that solve did not reach its tolerance, because the gradient is then not exact.

    Attributes:
        solver: Solver of the forward pass.
        stop: Stopping rule of the forward pass.
        backward_solver: Solver of the backward pass.
        backward_stop: Stopping rule of the backward pass.
    """

    solver: Solver = field(default_factory=Anderson)
    stop: Stop = field(default_factory=lambda: Stop(100, tol=1e-6))
    backward_solver: Solver = field(default_factory=Anderson)
    backward_stop: Stop = field(default_factory=lambda: Stop(100, tol=1e-6))

    def bind(self, seed: int, step: int, *, measure: bool = False) -> FixedPointSolver:
        return self.solve  # nothing is random, and the residual is reported anyway

    def solve(self, f: Map, z0: Tensor) -> Solution:
        """Solve from `z0` (B, ...) and attach the exact gradient to the solution.

        Raises:
            ValueError: Gradients are enabled, but the solution depends on nothing that requires a gradient.
        """
        with torch.no_grad():
            solution = solve(f, z0, solver=self.solver, stop=self.stop)
        if not torch.is_grad_enabled():
            return solution
        _clear_autocast_cache()
        start = solution.z.detach().requires_grad_()  # (B, ...)
        image = f(start)  # (B, ...)
        z = f(solution.z.detach())  # (B, ...): one more iteration, through which the parameters get their gradient
        _check_has_gradient(z)
        z.register_hook(functools.partial(self._backward, image, start))
        return Solution(z, solution.iters + 1, solution.residual, no_grad_iters=solution.iters)

    def _backward(self, image: Tensor, start: Tensor, grad: Tensor) -> Tensor:
        def transposed(g: Tensor) -> Tensor:
            return torch.autograd.grad(image, start, g, retain_graph=True)[0] + grad  # (B, ...)

        solution = solve(transposed, grad, solver=self.backward_solver, stop=self.backward_stop)
        tol = self.backward_stop.tol
        if tol and solution.residual is not None and not bool((solution.residual <= tol).all()):
            worst = solution.residual.max().item()
            warnings.warn(
                f"the backward solve stopped at a residual of {worst:.2g}, above its tolerance of {tol:.2g}; the "
                "gradient is approximate",
                RuntimeWarning,
                stacklevel=2,
            )
        return solution.z


def _clear_autocast_cache() -> None:
    # Autocast caches the low-precision weights of iterations without a graph, and older versions of torch reuse them.
    torch.clear_autocast_cache()


def _check_has_gradient(z: Tensor) -> None:
    if torch.is_grad_enabled() and not z.requires_grad:
        raise ValueError("the fixed point depends on nothing that requires a gradient; is the whole map frozen?")
