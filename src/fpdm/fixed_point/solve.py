"""The fixed-point loop: find z with f(z) = z by repeated application of f.

This is the only such loop in the project. A `Solver` combines the last iterates (`solvers.py`), a `Stop` says when to
stop, and a `Gradient` says how to differentiate (`gradients.py`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""The map f whose fixed point is sought: (B, ...) to (B, ...)."""


@dataclass(frozen=True)
class Stop:
    """Stopping rule of a solve.

    Attributes:
        max_iters: Maximum number of applications of f: an int, or a tensor (B,) that gives each sample its own limit
            of at least 1. The int 0 is allowed and returns the start.
        tol: A sample stops after the first iteration whose relative change is at most `tol`. 0 means exactly
            `max_iters` iterations, without computing residuals or synchronising with the device.
        measure: Report the residual of the last iteration even if `tol` is 0. This does not synchronise either.

    Raises:
        ValueError: `max_iters` is negative, `tol` is negative or not finite, or `max_iters` is a tensor and `tol` is 0.
    """

    max_iters: int | Tensor
    tol: float = 0.0
    measure: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.tol < float("inf"):
            raise ValueError(f"tol is {self.tol}; expected a finite number of at least 0")
        if isinstance(self.max_iters, Tensor):
            if self.tol == 0.0:
                raise ValueError("max_iters is a tensor and tol is 0; expected tol > 0, or one int for all samples")
        elif not isinstance(self.max_iters, int) or self.max_iters < 0:
            raise ValueError(f"max_iters is {self.max_iters!r}; expected an integer of at least 0, or a tensor (B,)")

    def ends(self, residual: Tensor, iters: Tensor) -> Tensor:
        """Tell which samples stop after an iteration, (B,) bool.

        Args:
            residual: Relative change in that iteration, (B,). One that is NaN counts as not converged.
            iters: Number of iterations so far, (B,).
        """
        return (residual <= self.tol) | (iters >= self.max_iters)  # (B,)


@dataclass(frozen=True)
class Solution:
    """Result of a solve.

    Attributes:
        z: The last iterate, (B, ...), which need not be the one with the lowest residual.
        iters: Number of applications of f: an int if it is the same for all samples, otherwise (B,) int64.
        residual: ||z_k - z_{k-1}|| / ||z_k|| of each sample's last iteration, (B,) float32; None if not computed.
        no_grad_iters: How many of `iters` ran without gradient.
    """

    z: Tensor
    iters: int | Tensor
    residual: Tensor | None = None
    no_grad_iters: int | Tensor = 0

    def detach(self) -> Solution:
        """Return the same solution, detached from the autograd graph."""
        return replace(self, z=self.z.detach())


class Solver(abc.ABC):
    """Update rule from (z, f(z)) to the next iterate. State is passed in and returned, never stored."""

    def init(self, z0: Tensor) -> Any:
        """Return the state before the first iteration from `z0` (B, ...)."""
        return None

    @abc.abstractmethod
    def step(self, z: Tensor, fz: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the next iterate (B, ...) and state, given `z` (B, ...) and `fz` = f(z) (B, ...)."""


def mean_iterations(iters: int | Tensor) -> float:
    """Average `Solution.iters` over the samples."""
    return torch.as_tensor(iters).float().mean().item()


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """Compute ||new - old|| / ||new|| per sample, in float32 or wider.

    Args:
        new: (B, ...).
        old: (B, ...).

    Returns:
        (B,) float32; NaN or inf where an iterate is not finite.
    """
    wide = torch.promote_types(new.dtype, torch.float32)  # float64 stays: small differences must not vanish
    new, old = new.detach().to(wide).flatten(1), old.detach().to(wide).flatten(1)  # (B, N)
    tiny = torch.finfo(torch.float32).tiny  # 0 / 0 counts as no change
    return ((new - old).norm(dim=1) / new.norm(dim=1).clamp_min(tiny)).float()  # (B,)


def solve(f: Map, z0: Tensor, *, solver: Solver, stop: Stop) -> Solution:
    """Iterate from `z0` towards a fixed point of `f`.

    Autograd records every iteration unless the caller disables it. A sample that has converged keeps its solution
    while the others continue, so the result of a sample does not depend on the rest of its batch.

    Args:
        f: Maps (B, ...) to the same shape, each sample independently.
        z0: Initial iterate, (B, ...).
        solver: Update rule, such as `Picard()` or `Anderson()`.
        stop: Stopping rule.
    """
    if stop.tol > 0.0:
        return _solve_to_tolerance(f, z0, solver, stop)
    assert isinstance(stop.max_iters, int)
    z, old, state = z0, z0, solver.init(z0)  # (B, ...)
    for _ in range(stop.max_iters):
        old = z  # (B, ...)
        z, state = solver.step(z, f(z), state)  # (B, ...)
    measured = stop.measure and stop.max_iters > 0
    return Solution(z, stop.max_iters, relative_change(z, old) if measured else None)


def _solve_to_tolerance(f: Map, z0: Tensor, solver: Solver, stop: Stop) -> Solution:
    batch = z0.shape[0]
    limit = torch.as_tensor(stop.max_iters, device=z0.device).expand(batch)  # (B,)
    stop = replace(stop, max_iters=limit)
    iters = torch.zeros(batch, dtype=torch.int64, device=z0.device)  # (B,)
    residual = torch.full((batch,), float("inf"), device=z0.device)  # (B,)
    z, state = z0, solver.init(z0)  # (B, ...)
    active = iters < limit  # (B,)
    while active.any():
        new, state = solver.step(z, f(z), state)  # (B, ...)
        residual = torch.where(active, relative_change(new, z), residual)  # (B,)
        z = torch.where(active.view(-1, *[1] * (z.ndim - 1)), new, z)  # (B, ...)
        iters = iters + active  # (B,)
        active = active & ~stop.ends(residual, iters)  # (B,)
    return Solution(z, iters, residual)
