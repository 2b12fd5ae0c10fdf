"""Fixed-point solvers: damped Picard iteration and Anderson acceleration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.fixed_point.solve import Solver


@dataclass(frozen=True)
class Picard(Solver):
    """Plain fixed-point iteration, z <- z + damping (f(z) - z). Damping 1 is the paper's solver (Sec. 3.1).

    Attributes:
        damping: Step size in (0, 1]. Values below 1 slow down a contraction, but can stabilise a map that oscillates.

    Raises:
        ValueError: `damping` is outside (0, 1].
    """

    damping: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.damping <= 1.0:
            raise ValueError(f"damping is {self.damping}; expected a number in (0, 1]")

    def step(self, z: Tensor, fz: Tensor, state: None) -> tuple[Tensor, None]:
        return (fz if self.damping == 1.0 else z + self.damping * (fz - z)), state


@dataclass(frozen=True)
class AndersonState:
    """The last iterates and their images, newest last: two tuples of at most `memory` tensors (B, N)."""

    iterates: tuple[Tensor, ...]
    images: tuple[Tensor, ...]


@dataclass(frozen=True)
class Anderson(Solver):
    """Anderson acceleration, type II: the affine combination of the last images with the smallest combined residual.

    For each sample, the weights a minimise ||sum_i a_i (f(z_i) - z_i)||^2 subject to sum_i a_i = 1, in float32 or
    wider, with Tikhonov regularisation relative to the size of the Gram matrix. A sample whose system cannot be solved
    (it is singular, or an iterate is not finite) takes a plain step instead. See Walker and Ni, "Anderson acceleration
    for fixed-point iterations", 2011.

    Attributes:
        memory: Number of iterates to combine, at least 1 (1 is plain iteration).
        mixing: Weight of the images against the iterates, in (0, 1].
        ridge: Regularisation relative to the mean diagonal of the Gram matrix, at least 0.

    Raises:
        ValueError: A field is outside its range.
    """

    memory: int = 5
    mixing: float = 1.0
    ridge: float = 1e-6

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"memory is {self.memory}; expected 1 or more")
        if not 0.0 < self.mixing <= 1.0:
            raise ValueError(f"mixing is {self.mixing}; expected a number in (0, 1]")
        if not 0.0 <= self.ridge < float("inf"):
            raise ValueError(f"ridge is {self.ridge}; expected a finite number of at least 0")

    def init(self, z0: Tensor) -> AndersonState:
        return AndersonState((), ())

    def step(self, z: Tensor, fz: Tensor, state: AndersonState) -> tuple[Tensor, AndersonState]:
        with torch.autocast(z.device.type, enabled=False):
            return self._step(z, fz, state)

    def _step(self, z: Tensor, fz: Tensor, state: AndersonState) -> tuple[Tensor, AndersonState]:
        wide = torch.promote_types(z.dtype, torch.float32)
        iterates = (*state.iterates, z.flatten(1).to(wide))[-self.memory :]  # k of (B, N)
        images = (*state.images, fz.flatten(1).to(wide))[-self.memory :]  # k of (B, N)
        x, y = torch.stack(iterates, 1), torch.stack(images, 1)  # (B, k, N)
        weights = self._weights((y - x).detach())  # (B, k, 1)
        # Terms of weight 0 are masked, not multiplied: 0 * inf is NaN.
        mix = y if self.mixing == 1.0 else self.mixing * y + (1.0 - self.mixing) * x  # (B, k, N)
        mix = torch.where(weights == 0.0, torch.zeros_like(mix), weights * mix).sum(1)  # (B, N)
        return mix.to(z.dtype).view_as(z), AndersonState(iterates, images)

    def _weights(self, residuals: Tensor) -> Tensor:
        """Map residuals (B, k, N) to weights (B, k, 1) that sum to 1 over k."""
        batch, k, _ = residuals.shape
        gram = residuals @ residuals.mT  # (B, k, k)
        scale = gram.diagonal(dim1=1, dim2=2).mean(1).view(batch, 1, 1)  # (B, 1, 1)
        eye = torch.eye(k, dtype=gram.dtype, device=gram.device)  # (k, k)
        # Dividing by the scale avoids underflow and overflow as the residuals shrink.
        system = gram / scale + self.ridge * eye  # (B, k, k)
        # solve_ex reports a singular matrix without raising and without synchronising with the device.
        raw, info = torch.linalg.solve_ex(system, torch.ones_like(system[..., :1]))  # (B, k, 1), (B,)
        weights = raw / raw.sum(1, keepdim=True)  # (B, k, 1)
        usable = (info == 0) & weights.isfinite().all(1).squeeze(-1)  # (B,)
        plain = torch.zeros_like(weights)  # (B, k, 1)
        plain[:, -1] = 1.0
        return torch.where(usable.view(batch, 1, 1), weights, plain)  # (B, k, 1)
