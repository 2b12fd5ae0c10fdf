"""The networks of the original code, by its own names: DiT's, and the FPDM authors'.

Written from their definitions, in plain tensor operations; only the functions without a name of a weight in them are
`network`'s. `weights` has the names of such a checkpoint, `pos_embed` included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.oracle.network import attention, gelu_tanh, image, layer_norm, linear, patches, positions, silu, sinusoids

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Size:
    width: int
    heads: int
    patch: int
    side: int  # of the image
    channels: int
    out: int  # channels of the output
    classes: int
    mlp: int  # hidden width


def names(size: Size, blocks: list[str], *, fixed_point: bool) -> dict[str, tuple[int, ...]]:
    """Every entry of a checkpoint, and its shape; `blocks` are the names of the blocks."""
    d, p = size.width, size.patch
    layers = {
        "t_embedder.mlp.0": (d, 256),
        "t_embedder.mlp.2": (d, d),
        "final_layer.linear": (p * p * size.out, d),
        "final_layer.adaLN_modulation.1": (2 * d, d),
    }
    if fixed_point:
        layers |= {
            "block_pre_projection": (d, d),
            "block_fixed_point_projection_fc1": (2 * d, 2 * d),
            "block_fixed_point_projection_fc2": (d, 2 * d),
        }
    for block in blocks:
        layers |= {
            f"{block}.attn.qkv": (3 * d, d),
            f"{block}.attn.proj": (d, d),
            f"{block}.mlp.fc1": (size.mlp, d),
            f"{block}.mlp.fc2": (d, size.mlp),
            f"{block}.adaLN_modulation.1": (6 * d, d),
        }
    found: dict[str, tuple[int, ...]] = {
        "x_embedder.proj.weight": (d, size.channels, p, p),
        "x_embedder.proj.bias": (d,),
        "y_embedder.embedding_table.weight": (size.classes + 1, d),
    }
    for name, shape in layers.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def checkpoint(size: Size, blocks: list[str], *, fixed_point: bool, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """Random weights, none of them zero, and the fixed positions."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in names(size, blocks, fixed_point=fixed_point).items():
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
        weights[name] = torch.randn(shape, generator=generator, dtype=dtype) / math.sqrt(fan_in)
    return {**weights, "pos_embed": positions(size.width, size.side // size.patch)[None]}  # (1, T, D)


def block(weights: Weights, name: str, x: Tensor, c: Tensor, heads: int) -> Tensor:
    """Order of the six: shift, scale, gate of the attention, then of the MLP. Both norms have eps 1e-6."""
    six = linear(silu(c), weights, f"{name}.adaLN_modulation.1")[:, None]  # (B, 1, 6D)
    d = x.shape[2]
    shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (six[..., i * d : (i + 1) * d] for i in range(6))  # (B, 1, D)
    x = x + gate * attention(weights, f"{name}.attn", layer_norm(x, 1e-6) * (1 + scale) + shift, heads)  # (B, T, D)
    h = layer_norm(x, 1e-6) * (1 + scale_mlp) + shift_mlp  # (B, T, D)
    h = linear(gelu_tanh(linear(h, weights, f"{name}.mlp.fc1")), weights, f"{name}.mlp.fc2")  # (B, T, D)
    return x + gate_mlp * h  # (B, T, D)


def embedded(weights: Weights, size: Size, x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, T, D), and the embeddings of the label and of timestep and label, (B, D)."""
    label = weights["y_embedder.embedding_table.weight"][y]  # (B, D)
    features = sinusoids(t, 0.0).to(label.dtype)  # (B, 256)
    timestep = linear(silu(linear(features, weights, "t_embedder.mlp.0")), weights, "t_embedder.mlp.2")  # (B, D)
    kernel = weights["x_embedder.proj.weight"].flatten(1)  # (D, C p p)
    tokens = patches(x, size.patch) @ kernel.T + weights["x_embedder.proj.bias"]  # (B, T, D)
    return tokens + weights["pos_embed"].to(tokens.dtype), label, timestep + label


def final(weights: Weights, size: Size, h: Tensor, c: Tensor) -> Tensor:
    shift, scale = linear(silu(c), weights, "final_layer.adaLN_modulation.1")[:, None].chunk(2, dim=2)  # (B, 1, D)
    h = layer_norm(h, 1e-6) * (1 + scale) + shift  # (B, T, D)
    return image(linear(h, weights, "final_layer.linear"), size.patch, size.side)  # (B, out, H, W)


def dit(weights: Weights, size: Size, depth: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    h, _, c = embedded(weights, size, x, t, y)
    for i in range(depth):
        h = block(weights, f"blocks.{i}", h, c, size.heads)  # (B, T, D)
    return final(weights, size, h, c)  # (B, out, H, W)


def fpdm(
    weights: Weights,
    size: Size,
    pre: int,
    post: int,
    x: Tensor,
    t: Tensor,
    y: Tensor,
    *,
    iterations: int,
    timestep_outside: bool = False,
) -> Tensor:
    h, label, c = embedded(weights, size, x, t, y)
    outer = c if timestep_outside else label  # (B, D)
    for i in range(pre):
        h = block(weights, f"blocks_pre.{i}", h, outer, size.heads)  # (B, T, D)
    u = linear(h, weights, "block_pre_projection")  # (B, T, D)
    for _ in range(iterations):
        mixed = linear(torch.cat([h, u], dim=2), weights, "block_fixed_point_projection_fc1")  # (B, T, 2D)
        mixed = linear(gelu_tanh(mixed), weights, "block_fixed_point_projection_fc2")  # (B, T, D)
        h = block(weights, "block_fixed_point", mixed, c, size.heads)  # (B, T, D)
    for i in range(post):
        h = block(weights, f"blocks_post.{i}", h, outer, size.heads)  # (B, T, D)
    return final(weights, size, h, outer)  # (B, out, H, W)
