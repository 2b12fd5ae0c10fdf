"""FPDM as one would write it from the paper's text and DiT's block, as a baseline to measure `fpdm.models` against.

FROZEN: changed only with a note here. Changes: the wording of docstrings.

Blocks, embeddings and head are DiT's; a block receives the conditioning and computes its modulation every time it is
applied. The input injection x~ = projection(x_pre) is computed once, as in line 2 of Algorithm 1; each iteration
concatenates it to x and projects the two to the block's width. The loop is plain, first without gradient, then with.
What the text leaves open (the layers of the projections, the timestep in the fixed-point block only, the start detached
from its graph) is as in `fpdm.models`, so that with the same weights both compute the same function and gradient.
Initialisation is left to PyTorch, because weights are loaded.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # (B, heads, T, d)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, d)
        return self.proj(x.transpose(1, 2).reshape(B, T, D))  # (B, T, D)


class Block(nn.Module):
    """DiT's adaLN-Zero block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=1)  # (B, D) each
        x = x + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift1, scale1))  # (B, T, D)
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))  # (B, T, D)


class FixedPointBlock(nn.Module):
    """DiT block with the injection as a second input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.combine = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width))
        self.block = Block(width, heads)

    def forward(self, x: Tensor, injection: Tensor, c: Tensor) -> Tensor:
        return self.block(self.combine(torch.cat([x, injection], dim=-1)), c)  # (B, T, D)


class StraightforwardFPDM(nn.Module):
    def __init__(
        self,
        *,
        image_size: int,
        in_channels: int,
        out_channels: int,
        patch_size: int,
        width: int,
        heads: int,
        num_classes: int,
        pre_blocks: int = 1,
        post_blocks: int = 1,
    ) -> None:
        super().__init__()
        self.patch_size, self.side, self.out_channels = patch_size, image_size // patch_size, out_channels
        self.patch_embedder = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.timestep_embedder = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.label_embedder = nn.Embedding(num_classes + 1, width)
        self.pre = nn.ModuleList(Block(width, heads) for _ in range(pre_blocks))
        self.projection = nn.Linear(width, width)
        self.fixed_point = FixedPointBlock(width, heads)
        self.post = nn.ModuleList(Block(width, heads) for _ in range(post_blocks))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.final = nn.Linear(width, patch_size * patch_size * out_channels)
        self.register_buffer("positions", position_table(width, self.side), persistent=False)
        self.positions: Tensor

    def forward(
        self, image: Tensor, t: Tensor, y: Tensor, *, n: int, m: int, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run Algorithm 1 with `n` iterations without gradient, then `m` with: output (B, C, H, W), x* (B, T, D)."""
        label = self.label_embedder(y)  # (B, D)
        c = label + self.timestep_embedder(timestep_features(t))  # (B, D)
        x = self.patch_embedder(image).flatten(2).transpose(1, 2) + self.positions  # (B, T, D)
        for block in self.pre:
            x = block(x, label)  # (B, T, D)
        injection = self.projection(x)  # (B, T, D)
        x = x.detach() if start is None else start  # (B, T, D)
        with torch.no_grad():
            for _ in range(n):
                x = self.fixed_point(x, injection, c)  # (B, T, D)
        for _ in range(m):
            x = self.fixed_point(x, injection, c)  # (B, T, D)
        solution = x  # (B, T, D)
        for block in self.post:
            x = block(x, label)  # (B, T, D)
        shift, scale = self.final_modulation(label).chunk(2, dim=1)  # (B, D) each
        x = self.final(modulate(self.final_norm(x), shift, scale))  # (B, T, p * p * C)
        return self.unpatchify(x), solution

    def unpatchify(self, x: Tensor) -> Tensor:
        p, h = self.patch_size, self.side
        x = x.reshape(len(x), h, h, p, p, self.out_channels)  # (B, h, h, p, p, C)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(len(x), self.out_channels, h * p, h * p)  # (B, C, H, W)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)  # (B, T, D)


def timestep_features(t: Tensor) -> Tensor:
    frequencies = torch.exp(-math.log(10000) * torch.arange(128, device=t.device) / 128)  # (128,)
    angles = t[:, None].float() * frequencies  # (B, 128)
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)  # (B, 256)


def position_table(width: int, side: int) -> Tensor:
    """Compute DiT's fixed 2-D sines and cosines, (T, D)."""
    frequencies = 1 / 10000 ** (torch.arange(width // 4) / (width // 4))  # (D/4,)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")  # (side, side)
    axes = [axis.flatten()[:, None] * frequencies for axis in (columns, rows)]  # 2 of (T, D/4)
    return torch.cat([wave for axis in axes for wave in (axis.sin(), axis.cos())], dim=1)  # (T, D)
