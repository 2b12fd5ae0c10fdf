"""The output of a pipeline: images in the form that the user wants, and what was spent on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from fpdm.data.images import to_uint8
from fpdm.sampling.plan import Plan
from fpdm.sampling.sampler import SampleState

OutputType = Literal["pil", "np", "pt", "latent"]
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class FPDMPipelineOutput(BaseOutput):
    """Images, and what was spent on them.

    Attributes:
        images: As `output_type` says: a list of PIL images; an array (B, H, W, C) or a tensor (B, C, H, W) in [0, 1];
            or latents (B, c, h, w).
        timesteps: The S timesteps at which the network was evaluated, noisiest first.
        iterations: Fixed-point iterations by timestep and image, (S, B); for a stack of blocks, its depth. With
            guidance, the mean of its evaluations.
        residuals: Relative change in the last iteration by timestep and image, (S, B), with guidance the largest of its
            evaluations; None for a stack of blocks.
        passes: Block passes per image, averaged over the images.
        macs: Multiply-accumulates per image, averaged likewise, including decoding.
        seeds: Seed of each image. With its index, it gives the same image again.
        indices: Index of each image among those of its seed.
        plan: The plan that was followed.
        plan_origin: Which tuned plans it comes from, in words; empty if none was tuned.
    """

    images: list[Image.Image] | np.ndarray | Tensor
    timesteps: tuple[float, ...]
    iterations: np.ndarray
    residuals: np.ndarray | None
    passes: float
    macs: float
    seeds: list[int]
    indices: list[int]
    plan: Plan
    plan_origin: str


class StepLog:
    """Record of what each step took.

    Args:
        count: Number of images.

    Attributes:
        timesteps: The timesteps so far.
    """

    def __init__(self, count: int) -> None:
        self.count, self.timesteps = count, list[float]()
        self._iterations, self._residuals = list[np.ndarray](), list[np.ndarray]()

    def add(self, state: SampleState) -> None:
        """Record a step."""
        solution = state.solution
        self.timesteps.append(state.timestep)
        self._iterations.append(self._by_image(solution.iters).mean(0))  # (B,)
        if solution.residual is not None:
            self._residuals.append(self._by_image(solution.residual).max(0))  # (B,)

    @property
    def iterations(self) -> np.ndarray:
        """Iterations by step and image, (S, B)."""
        return np.stack(self._iterations)

    @property
    def residuals(self) -> np.ndarray | None:
        """Residuals by step and image, (S, B); None if the network has none."""
        return np.stack(self._residuals) if self._residuals else None

    def _by_image(self, values: int | Tensor) -> np.ndarray:
        """Arrange numbers of one or more evaluations of each image, or one number for all: (evaluations, B)."""
        array = np.asarray(values.cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
        return np.broadcast_to(array, (1, self.count)) if array.ndim == 0 else array.reshape(-1, self.count)


def as_output(images: Tensor, output_type: OutputType) -> Any:
    """Convert latents, or images (B, C, H, W) in [-1, 1], to what the user wants."""
    if output_type == "latent":
        return images
    if output_type == "pil":
        pixels = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, C)
        return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]
    scaled = (images.float() / 2.0 + 0.5).clamp(0.0, 1.0)  # (B, C, H, W)
    return scaled if output_type == "pt" else scaled.permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, C)
