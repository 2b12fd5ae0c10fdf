"""Classifier-free guidance (Ho and Salimans 2022), as a denoiser that wraps a denoiser."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.models.transformer import Prediction


class Denoiser(Protocol):
    """What a sampler samples from: `DiffusionTransformer`, or anything that answers alike."""

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, /, *, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> Prediction:
        """Predict v at `x` (B, C, H, W), timesteps `t` (B,) and labels `y` (B,)."""
        ...


@dataclass(frozen=True)
class Guided:
    """v = v_uncond + scale (v_cond - v_uncond), on all channels; each half has its own fixed-point solution.

    The two halves run as one batch of 2B, the conditional one first. (Code after GLIDE guides three of four latent
    channels only; its scale of 1.5 is about 1.375 here.)

    Attributes:
        denoiser: The one that is guided.
        scale: 1 is no guidance, 0 the unconditional model; above 1 it sharpens.
        null_label: The label that means "no class".

    Raises:
        ValueError: A scale that is negative or not finite, or an unconditional model.
    """

    denoiser: Denoiser
    scale: float
    null_label: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < math.inf:
            raise ValueError(f"the guidance scale is {self.scale}; expected a finite number of at least 0 (1 is none)")
        if self.null_label < 1:
            raise ValueError("guidance needs a class-conditional model; this one is unconditional: leave the scale out")

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, /, *, solver: FixedPointSolver, z0: Tensor | None = None
    ) -> Prediction:
        """The guided prediction, (B, C, H, W); its solution holds both halves, (2B, T, D)."""
        if y is None:
            raise ValueError("guidance needs labels; y is None")
        labels = torch.cat([y, torch.full_like(y, self.null_label)])  # (2B,)
        both = self.denoiser(x.repeat(2, 1, 1, 1), t.repeat(2), labels, solver=solver, z0=z0)
        with_class, without = both.value.chunk(2)  # (B, C, H, W) each
        value = without + self.scale * (with_class - without)  # (B, C, H, W)
        variance = None if both.variance is None else both.variance.chunk(2)[0]  # (B, C, H, W)
        return replace(both, value=value, variance=variance)
