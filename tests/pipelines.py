"""Pipelines of networks so small that they take no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.pipeline import FPDMPipeline
from fpdm.sampling.schedulers import default_scheduler
from tests import autoencoders

SHAPE = TransformerConfig(
    image_size=8, in_channels=1, patch_size=4, width=16, heads=2, num_classes=3, learn_variance=False
)
CLASSES = {"0": "cat, domestic cat", "1": "dog", "2": "5"}


def network(shape: TransformerConfig = SHAPE, iterations: int = 4) -> DiffusionTransformer:
    """A network with random weights everywhere, where a new one has zeros that make it predict zeros."""
    model = DiffusionTransformer.from_shape(shape, iterations=iterations)
    draw = torch.Generator().manual_seed(1)
    for weights in model.parameters():
        weights.data = 0.3 * torch.randn(weights.shape, generator=draw)
    return model.eval()


def pixels(*, dit: bool = False, **settings: Any) -> FPDMPipeline:
    """A pipeline of pixels with three named classes."""
    schedule = Schedule()
    values = {"scheduler": default_scheduler(schedule, clip=True), "id2label": CLASSES, "name": "tiny"} | settings
    pipe = FPDMPipeline(network(as_dit(SHAPE, 4) if dit else SHAPE), **values)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents(folder: Path, *, pad: int = 0) -> FPDMPipeline:
    """A pipeline of latents of 4 channels, whose autoencoder is saved in a folder first."""
    autoencoders.tiny(folder, pad=pad)
    shape = TransformerConfig(
        image_size=4, in_channels=4, patch_size=2, width=16, heads=2, num_classes=0, learn_variance=False
    )
    scheduler = default_scheduler(Schedule(), clip=False)
    pipe = FPDMPipeline(network(shape), scheduler, autoencoder={"source": str(folder)}, name="latent")
    pipe.set_progress_bar_config(disable=True)
    return pipe
