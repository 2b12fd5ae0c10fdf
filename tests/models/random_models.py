"""Transformers with random weights, none of them zero, and batches for them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig
from fpdm.models.transformer import DiffusionTransformer, Prediction
from tests.oracle import network


@dataclass(frozen=True)
class Batch:
    x: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    y: Tensor | None  # (B,)


def random_model(shape: TransformerConfig, dtype: torch.dtype, seed: int = 0) -> DiffusionTransformer:
    model = DiffusionTransformer.from_shape(shape).to(dtype)
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(network.random_weights(sizes, seed=seed, dtype=dtype))
    return model


def random_batch(shape: TransformerConfig, dtype: torch.dtype) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(
        3, shape.in_channels, shape.image_size, shape.image_size, generator=generator, dtype=dtype
    )  # (B, C, H, W)
    # Both ends of the timesteps, and the "no class" row.
    y = torch.tensor([0, shape.num_classes, shape.num_classes // 2])  # (B,)
    return Batch(x, torch.tensor([0, 999, 421]), y if shape.num_classes else None)


def run(model: DiffusionTransformer, batch: Batch, iterations: int, z0: Tensor | None = None) -> Prediction:
    solver = functools.partial(solve, solver=Picard(), stop=Stop(iterations))
    with torch.no_grad():
        return model(batch.x, batch.t, batch.y, solver=solver, z0=z0)
