"""Classifier-free guidance (Ho and Salimans 2022), as a denoiser that wraps another."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.models.transformer import Prediction


class Denoiser(Protocol):
    """Interface that samplers expect of a network: that of `DiffusionTransformer`."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        /,
        *,
        solver: FixedPointSolver,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
    ) -> Prediction:
        """Predict v at `x` (B, C, H, W), timesteps `t` (B,) and labels `y` (B,), and a weaker v of `weak_depth`."""
        ...


@dataclass(frozen=True)
class Guided:
    """Guided prediction v = v_uncond + scale (v_cond - v_uncond) on all channels.

    The conditional and the unconditional half run as one batch of 2B, the conditional one first, and each has its own
    fixed-point solution. (Code derived from GLIDE guides three of four latent channels; its scale of 1.5 is about 1.375
    here.)

    Attributes:
        denoiser: The denoiser to guide.
        scale: Guidance scale: 0 is the unconditional model, 1 is no guidance, larger values sharpen.
        null_label: Label that means "no class".

    Raises:
        ValueError: The scale is negative or not finite, or the model is unconditional.
    """

    denoiser: Denoiser
    scale: float
    null_label: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < math.inf:
            raise ValueError(f"the guidance scale is {self.scale}; expected a finite number of at least 0 (1 is off)")
        if self.null_label < 1:
            raise ValueError("guidance needs a class-conditional model, and this one is unconditional; leave it out")

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        /,
        *,
        solver: FixedPointSolver,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
    ) -> Prediction:
        """Predict v with guidance, (B, C, H, W); the solution holds both halves, (2B, T, D)."""
        if y is None:
            raise ValueError("y is None; expected labels (B,), which guidance needs")
        labels = torch.cat([y, torch.full_like(y, self.null_label)])  # (2B,)
        both = self.denoiser(x.repeat(2, 1, 1, 1), t.repeat(2), labels, solver=solver, z0=z0, weak_depth=weak_depth)
        variance = None if both.variance is None else both.variance.chunk(2)[0]  # (B, C, H, W)
        weak = None if both.weak is None else self._guide(both.weak)  # (B, C, H, W)
        return replace(both, value=self._guide(both.value), variance=variance, weak=weak)

    def _guide(self, halves: Tensor) -> Tensor:
        with_class, without = halves.chunk(2)  # (B, C, H, W) each
        return without + self.scale * (with_class - without)  # (B, C, H, W)
