"""Sampling with denoisers in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import TransformerConfig
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, normal
from fpdm.sampling.allocation import Constant
from fpdm.sampling.budget import Budget
from fpdm.sampling.guidance import Denoiser
from fpdm.sampling.sampler import sample
from fpdm.sampling.steps import Step

SCHEDULE = Schedule()


def one_each(steps: int) -> Budget:
    """Pays for exactly one iteration in each step."""
    return Budget(3 * steps, 2, 1, range(1, 10**9))


def trajectory(
    denoiser: Denoiser,
    x: np.ndarray,
    timesteps: Sequence[int],
    step: Step,
    *,
    schedule: Schedule = SCHEDULE,
    noise: Callable[[int], np.ndarray] | None = None,
) -> list[np.ndarray]:
    """What `sample` yields from pure noise `x` (B, D), with `noise(k)` (B, D) for step k, in float64: S of (B, D)."""
    states = sample(
        denoiser,
        torch.from_numpy(x)[:, :, None, None],  # (B, D, 1, 1)
        schedule=schedule,
        timesteps=timesteps,
        step=step,
        budget=one_each(len(timesteps)),
        allocation=Constant(),
        clip=None,
        noise=None if noise is None else lambda k: torch.from_numpy(noise(k))[:, :, None, None],
    )
    return [state.x.flatten(1).numpy() for state in states]


class Moments(NamedTuple):
    """Mean (D,) and covariance (D, D)."""

    mean: np.ndarray
    cov: np.ndarray


def moments(denoiser: Denoiser, size: int, timesteps: Sequence[int], step: Step) -> Moments:
    """The exact moments of what is sampled in `size` dimensions where the denoiser is affine, as a Gaussian's is.

    Then a sample is an affine function of all the noise that went into it: the start and what each step adds. Zero
    noise gives its constant, and one unit of each noise alone gives its linear part.
    """
    rows = 1 + size * (1 + len(timesteps))  # R: nothing, then each unit of noise alone

    def unit(place: int) -> np.ndarray:
        noise = np.zeros((rows, size))  # (R, D)
        noise[1 + place * size : 1 + (place + 1) * size] = np.eye(size)
        return noise

    samples = trajectory(denoiser, unit(0), timesteps, step, noise=lambda k: unit(1 + k))[-1]  # (R, D)
    linear = samples[1:] - samples[0]  # (R - 1, D)
    return Moments(samples[0], linear.T @ linear)


def small_model() -> DiffusionTransformer:
    """A small FPDM whose weights are all random, so that every part of it has a say."""
    shape = TransformerConfig(image_size=4, in_channels=3, patch_size=2, width=16, heads=2, num_classes=3)
    model = DiffusionTransformer.from_shape(shape).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 10
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7 / fan_in**0.5)
    return model


def start(indices: Sequence[int], step: int = 0) -> Tensor:
    """Noise for images of `small_model`, each from its own index: (B, C, H, W)."""
    return normal((3, 4, 4), seed=5, stream=Stream.SAMPLE, indices=indices, step=step)
