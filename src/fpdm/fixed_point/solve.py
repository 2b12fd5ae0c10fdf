"""The fixed-point loop: find z with f(z) = z by repeated application of f.

There is one such loop in the project, and it is this one. What to do with the last iterates is the solver's
business (`solvers.py`), when to stop is said by a `Stop`, and how to differentiate is `gradients.py`'s.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""The map f whose fixed point is wanted: (B, ...) to (B, ...)."""


@dataclass(frozen=True)
class Stop:
    """When to stop iterating.

    Attributes:
        max_iters: Applications of f at most; an int, or a tensor (B,) that gives each sample its own limit (each at
            least 1). Zero is allowed as an int and returns the start.
        tol: A sample stops after the iteration whose relative change is at or below this. 0 means exactly
            `max_iters` iterations, with no residual computed and no synchronisation with the device.
        measure: Report the residual of the last iteration although `tol` is 0. Does not synchronise either.

    Raises:
        ValueError: A negative `max_iters`, a `tol` that is negative or not finite, or a per-sample `max_iters` with
            `tol=0`.
    """

    max_iters: int | Tensor
    tol: float = 0.0
    measure: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.tol < float("inf"):
            raise ValueError(f"tol is {self.tol}; expected a finite number of at least 0")
        if isinstance(self.max_iters, Tensor):
            if self.tol == 0.0:
                raise ValueError("max_iters per sample needs tol > 0; with tol=0 every sample gets the same int")
        elif not isinstance(self.max_iters, int) or self.max_iters < 0:
            raise ValueError(f"max_iters is {self.max_iters!r}; expected an integer of at least 0, or a tensor of them")


@dataclass(frozen=True)
class Solution:
    """What a solve returns.

    Attributes:
        z: The last iterate, (B, ...). Not the one with the lowest residual.
        iters: Applications of f: an int when all samples got the same number, else (B,) int64.
        residual: ||z_k - z_{k-1}|| / ||z_k|| of each sample's last iteration, (B,) float32; None if not computed.
        no_grad_iters: Those among `iters` that no gradient flows through.
    """

    z: Tensor
    iters: int | Tensor
    residual: Tensor | None = None
    no_grad_iters: int | Tensor = 0

    def detach(self) -> Solution:
        """The same solution, cut off from the graph that made it."""
        return replace(self, z=self.z.detach())


class Solver(abc.ABC):
    """Turns the pair (z, f(z)) into the next iterate. State goes in and comes out by argument."""

    def init(self, z0: Tensor) -> Any:
        """The state before the first iteration from `z0` (B, ...)."""
        return None

    @abc.abstractmethod
    def step(self, z: Tensor, fz: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The next iterate (B, ...) from `z` (B, ...) and `fz` = f(z) (B, ...), with the next state."""


def mean_iterations(iters: int | Tensor) -> float:
    """The mean over the samples of iterations that are counted as in `Solution.iters`."""
    return torch.as_tensor(iters).float().mean().item()


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """||new - old|| / ||new|| per sample, in float32 however narrow the inputs' type.

    Args:
        new: (B, ...).
        old: (B, ...).

    Returns:
        (B,) float32; nan or inf where an iterate is not finite.
    """
    wide = torch.promote_types(new.dtype, torch.float32)  # float64 stays: its small differences are not 0
    new, old = new.detach().to(wide).flatten(1), old.detach().to(wide).flatten(1)  # (B, N)
    tiny = torch.finfo(torch.float32).tiny  # 0 / 0 counts as no change
    return ((new - old).norm(dim=1) / new.norm(dim=1).clamp_min(tiny)).float()  # (B,)


def solve(f: Map, z0: Tensor, *, solver: Solver, stop: Stop) -> Solution:
    """Iterate to the fixed point of `f`, from `z0`.

    Autograd sees every iteration unless it is switched off outside. A sample that has converged keeps its answer
    while the others go on, so that no sample's answer depends on its neighbours in the batch.

    Args:
        f: Maps (B, ...) to the same shape, each sample by itself.
        z0: The start, (B, ...).
        solver: `Picard()` or `Anderson()`.
        stop: How many iterations, or to what tolerance.
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
    iters = torch.zeros(batch, dtype=torch.int64, device=z0.device)  # (B,)
    residual = torch.full((batch,), float("inf"), device=z0.device)  # (B,)
    z, state = z0, solver.init(z0)  # (B, ...)
    active = iters < limit  # (B,)
    while active.any():
        new, state = solver.step(z, f(z), state)  # (B, ...)
        residual = torch.where(active, relative_change(new, z), residual)  # (B,)
        z = torch.where(active.view(-1, *[1] * (z.ndim - 1)), new, z)  # (B, ...)
        iters = iters + active  # (B,)
        # Written so that a residual of nan counts as not converged.
        active = active & ~(residual <= stop.tol) & (iters < limit)  # (B,)
    return Solution(z, iters, residual)
