"""Embeddings of patches, positions, timesteps and labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sincos_positions(width: int, side: int) -> Tensor:
    """Compute fixed 2-D sine-cosine positions of a square grid, with the column in the first half of the width (DiT).

    Args:
        width: Width D, divisible by 4.
        side: Number of tokens along one side.

    Returns:
        (side * side, D) float32, rows in reading order.
    """
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)  # (D/4,)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies  # (side, D/4)
    axis = torch.cat([angles.sin(), angles.cos()], 1)  # (side, D/2)
    columns = axis[None, :, :].expand(side, side, -1)  # (side, side, D/2)
    rows = axis[:, None, :].expand(side, side, -1)  # (side, side, D/2)
    return torch.cat([columns, rows], 2).reshape(side * side, width).float()  # (side * side, D)


def sinusoids(t: Tensor, width: int, frequency_shift: float = 0.0) -> Tensor:
    """Compute sinusoids of the timestep, cosines first; frequency i is 10000^(-i / (width / 2 - shift)).

    Args:
        t: Timesteps, (B,), which may be fractional.
        width: Number of sinusoids, even.
        frequency_shift: Shift of the frequencies, 0 in DiT's own code and 1 in diffusers.

    Returns:
        (B, width) float32.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)  # (width/2,)
    frequencies = torch.exp(-math.log(10000.0) * steps / (half - frequency_shift))  # (width/2,)
    angles = t.float()[:, None] * frequencies  # (B, width/2)
    return torch.cat([angles.cos(), angles.sin()], 1)  # (B, width)


class PatchEmbedding(nn.Module):
    """Linear projection of the patches of an image: (B, C, H, W) to (B, T, D)."""

    def __init__(self, in_channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        # Initialise like a linear layer, not like a convolution.
        nn.init.xavier_uniform_(self.proj.weight.view(width, -1))
        assert self.proj.bias is not None
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Project the patches, (B, C, H, W) to (B, T, D), in reading order."""
        return self.proj(x).flatten(2).mT.contiguous()  # (B, T, D)


class TimestepEmbedding(nn.Module):
    """Two-layer MLP on 256 sinusoids of the timestep: (B,) to (B, D)."""

    SINUSOIDS = 256

    def __init__(self, width: int, frequency_shift: float = 0.0) -> None:
        super().__init__()
        self.frequency_shift = frequency_shift
        layers = nn.Linear(self.SINUSOIDS, width), nn.Linear(width, width)
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.SiLU(), layers[1])

    def forward(self, t: Tensor) -> Tensor:
        features = sinusoids(t, self.SINUSOIDS, self.frequency_shift)  # (B, 256)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))  # (B, D)


class LabelEmbedding(nn.Module):
    """Embedding with one row per class and a last one for "no class", the only row of an unconditional model."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embedding_table = nn.Embedding(num_classes + 1, width)
        nn.init.normal_(self.embedding_table.weight, std=0.02)

    def forward(self, y: Tensor) -> Tensor:
        """Embed labels from 0 to num_classes, which means "no class": (B,) to (B, D)."""
        return self.embedding_table(y)  # (B, D)
