"""Fixed-point solvers: damped Picard iteration and Anderson acceleration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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


class AndersonState(NamedTuple):
    """The last images of iterates, newest last, and what the weights of the next combination are computed from.

    Attributes:
        images: f(z) of the last k iterates z, k tensors (B, N).
        residuals: f(z) - z of each, k tensors (B, N).
        gram: Inner products of the residuals, (B, k, k).
    """

    images: tuple[Tensor, ...]
    residuals: tuple[Tensor, ...]
    gram: Tensor


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
        wide = torch.promote_types(z0.dtype, torch.float32)
        return AndersonState((), (), z0.new_empty(len(z0), 0, 0, dtype=wide))

    def step(self, z: Tensor, fz: Tensor, state: AndersonState) -> tuple[Tensor, AndersonState]:
        with torch.autocast(z.device.type, enabled=False):
            return self._step(z, fz, state)

    def _step(self, z: Tensor, fz: Tensor, state: AndersonState) -> tuple[Tensor, AndersonState]:
        wide = state.gram.dtype
        image = fz.flatten(1).to(wide)  # (B, N)
        residual = image - z.flatten(1).to(wide)  # (B, N)
        if self.mixing == 1.0:  # then no residual is part of an iterate
            residual = residual.detach()  # (B, N)
        images = (*state.images, image)[-self.memory :]  # k of (B, N)
        residuals = (*state.residuals, residual)[-self.memory :]  # k of (B, N)
        gram = self._gram(residuals, state.gram)  # (B, k, k)
        weights, usable = self._weights(gram)  # (B, k), (B, 1)
        plain = self._mixed(image, residual)  # (B, N)
        mix = torch.zeros_like(image)  # (B, N)
        for i, (old_image, old_residual) in enumerate(zip(images, residuals, strict=True)):
            mix = torch.addcmul(mix, weights[:, i : i + 1], self._mixed(old_image, old_residual))  # (B, N)
        # Masked, not multiplied by weights of 0: 0 * inf is NaN.
        mix = torch.where(usable, mix, plain)  # (B, N)
        return mix.to(z.dtype).view_as(z), AndersonState(images, residuals, gram)

    def _mixed(self, image: Tensor, residual: Tensor) -> Tensor:
        """Return mixing f(z) + (1 - mixing) z, (B, N)."""
        return image if self.mixing == 1.0 else image - (1.0 - self.mixing) * residual  # (B, N)

    @staticmethod
    def _gram(residuals: tuple[Tensor, ...], before: Tensor) -> Tensor:
        """Add the newest of the residuals, k of (B, N), to the Gram matrix of those before it: (B, k, k)."""
        newest = residuals[-1].detach()[:, None, :]  # (B, 1, N)
        row = torch.cat([newest @ one.detach()[:, :, None] for one in residuals], 2)  # (B, 1, k)
        kept = before[
            :, before.shape[1] - len(residuals) + 1 :, before.shape[1] - len(residuals) + 1 :
        ]  # (B, k-1, k-1)
        return torch.cat([torch.cat([kept, row[:, :, :-1].mT], 2), row], 1)  # (B, k, k)

    def _weights(self, gram: Tensor) -> tuple[Tensor, Tensor]:
        """Map a Gram matrix (B, k, k) to weights (B, k) that sum to 1, and whether there are any, (B, 1)."""
        batch, k, _ = gram.shape
        scale = gram.diagonal(dim1=1, dim2=2).mean(1).view(batch, 1, 1)  # (B, 1, 1)
        eye = torch.eye(k, dtype=gram.dtype, device=gram.device)  # (k, k)
        # Dividing by the scale avoids underflow and overflow as the residuals shrink.
        system = gram / scale + self.ridge * eye  # (B, k, k)
        # solve_ex reports a singular matrix without raising and without synchronising with the device.
        raw, info = torch.linalg.solve_ex(system, torch.ones_like(system[..., :1]))  # (B, k, 1), (B,)
        weights = raw[..., 0] / raw[..., 0].sum(1, keepdim=True)  # (B, k)
        usable = (info == 0)[:, None] & weights.isfinite().all(1, keepdim=True)  # (B, 1)
        return torch.where(usable, weights, 0.0), usable  # (B, k), (B, 1): no NaN, not even in a backward pass
