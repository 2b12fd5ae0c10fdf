"""Draw samples of a model in training: averaged weights beside raw weights, from the same noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fpdm.autoencoder.interface import Autoencoder
from fpdm.data.labels import balanced_labels
from fpdm.diffusion.schedule import Schedule
from fpdm.drawing.images import enlarged, tile
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan

COUNT, COLUMNS, GAP = 16, 4, 2
STEPS = 20


def few_samples(
    model: DiffusionTransformer,
    schedule: Schedule,
    autoencoder: Autoencoder,
    plan: Plan,
    *,
    seed: int,
    device: torch.device,
) -> Tensor:
    """Draw the images 0 to 15 of a seed in 20 steps, with the classes in turn: (16, C, H, W) uint8.

    Args:
        model: The network.
        schedule: Its noise schedule.
        autoencoder: Decoder of its latents.
        plan: How to sample it, whatever the budget.
        seed: Seed of the noise.
        device: Device of the network.

    Raises:
        RunError: The samples are not finite.
    """
    cost = model.cost()
    iterations = plan.with_iterations(cost).iterations or cost.middle.iterations.start
    plan = replace(plan, budget=min(STEPS, schedule.num_timesteps) * cost.passes(iterations))
    sampler = ImageSampler(model, schedule, plan, seed=seed, device=device, autoencoder=autoencoder)
    return sampler(range(COUNT), balanced_labels(range(COUNT), model.shape.num_classes)).pixels


def side_by_side(averaged: Tensor, raw: Tensor) -> np.ndarray:
    """Draw two grids of images (N, C, H, W) uint8 with their names above them: (h, w, 3) uint8."""
    grids = [tile(enlarged(images), COLUMNS, gap=GAP) for images in (averaged, raw)]  # (h, w, 3) each
    height, width, _ = grids[0].shape
    title, margin = 16, 8
    picture = Image.new("RGB", (2 * width + margin, height + title), "white")
    draw = ImageDraw.Draw(picture)
    for name, grid, left in zip(("averaged weights", "raw weights"), grids, (0, width + margin), strict=True):
        draw.text((left + 2, 2), name, fill="black")
        picture.paste(Image.fromarray(grid), (left, title))
    return np.asarray(picture)
