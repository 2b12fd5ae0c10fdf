"""FPDM and DiT in plain, slow PyTorch: the yardstick for `fpdm.models`, with which it shares no code.

Nothing is hoisted, cached or fused: every iteration computes its modulation anew and multiplies [z ; u] by the whole
of W1, attention runs head by head, and patches are cut and laid out by loops. `weights` is a flat dictionary with the
names of the model's state_dict, in any float type. `shape` is any object with the plain values that are read below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Output:
    value: Tensor  # (B, C, H, W)
    variance: Tensor | None  # (B, C, H, W)
    z: Tensor  # (B, T, D), what the middle gives


def random_weights(
    shapes: Mapping[str, torch.Size], *, seed: int, dtype: torch.dtype, gain: float = 1.0
) -> dict[str, Tensor]:
    """Random values for every weight, none of them zero, at a scale that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in shapes.items():
        fan_in = math.prod(size[1:]) if len(size) > 1 else 4
        values = torch.randn(size, generator=generator, dtype=torch.float64)
        weights[name] = (gain * values / math.sqrt(fan_in)).to(dtype)
    return weights


# Elementary functions, written out.


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    y = x @ weights[f"{name}.weight"].T  # (..., out)
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y  # (..., out)


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x: Tensor, eps: float) -> Tensor:
    mean = x.sum(-1, keepdim=True) / x.shape[-1]  # (B, T, 1)
    variance = ((x - mean) ** 2).sum(-1, keepdim=True) / x.shape[-1]  # (B, T, 1)
    return (x - mean) / torch.sqrt(variance + eps)  # (B, T, D)


def softmax(scores: Tensor) -> Tensor:
    raised = torch.exp(scores - scores.amax(-1, keepdim=True))  # (B, T, T)
    return raised / raised.sum(-1, keepdim=True)  # (B, T, T)


# What goes in.


def sinusoids(t: Tensor, shift: float) -> Tensor:
    """256 of them, cosines first. In float32 as in DiT's code: an angle near 999 is then known to 3e-5 only."""
    exponent = -math.log(10000.0) * torch.arange(128, dtype=torch.float32) / (128 - shift)  # (128,)
    angle = t.to(torch.float32).view(-1, 1) * torch.exp(exponent).view(1, -1)  # (B, 128)
    return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)  # (B, 256)


def positions(width: int, side: int) -> Tensor:
    """Of token (row, column): sines and cosines of the column, then of the row; the table is kept in float32."""
    table = []
    for row in range(side):
        for column in range(side):
            entry = []
            for coordinate in (column, row):
                angles = [coordinate / 10000 ** (i / (width // 4)) for i in range(width // 4)]
                entry += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            table.append(entry)
    return torch.tensor(table, dtype=torch.float32)  # (T, D)


def patches(x: Tensor, p: int) -> Tensor:
    tokens = []
    for top in range(0, x.shape[2], p):
        for left in range(0, x.shape[3], p):
            patch = x[:, :, top : top + p, left : left + p]  # (B, C, p, p)
            tokens.append(patch.reshape(x.shape[0], -1))  # (B, C p p)
    return torch.stack(tokens, dim=1)  # (B, T, C p p)


def image(tokens: Tensor, p: int, size: int) -> Tensor:
    """The inverse for the head's order: each token holds (row in patch, column in patch, channel)."""
    batch, _, length = tokens.shape
    channels = length // (p * p)
    out = torch.zeros(batch, channels, size, size, dtype=tokens.dtype)  # (B, C, H, W)
    index = 0
    for top in range(0, size, p):
        for left in range(0, size, p):
            for i in range(p):
                for j in range(p):
                    start = (i * p + j) * channels
                    out[:, :, top + i, left + j] = tokens[:, index, start : start + channels]  # (B, C)
            index += 1
    return out


def conditioning(weights: Weights, shape: Any, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The label's embedding alone, and timestep plus label."""
    table = weights["y_embedder.embedding_table.weight"]  # (K + 1, D)
    label = torch.stack([table[int(row)] for row in y])  # (B, D)
    features = sinusoids(t, shape.frequency_shift).to(table.dtype)  # (B, 256)
    timestep = linear(silu(linear(features, weights, "t_embedder.mlp.0")), weights, "t_embedder.mlp.2")  # (B, D)
    return label, timestep + label


# The network.


def attention(weights: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    width = x.shape[2]
    size = width // heads
    qkv = linear(x, weights, f"{name}.qkv")  # (B, T, 3D)
    q, k, v = qkv[..., :width], qkv[..., width : 2 * width], qkv[..., 2 * width :]  # (B, T, D)
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)  # (B, T, T)
        mixed.append(softmax(scores) @ v[..., part])  # (B, T, D/heads)
    return linear(torch.cat(mixed, dim=2), weights, f"{name}.proj")  # (B, T, D)


def block(weights: Weights, name: str, x: Tensor, c: Tensor, shape: Any) -> Tensor:
    six = linear(silu(c), weights, f"{name}.adaLN_modulation.1")  # (B, 6D)
    six = six.unsqueeze(1)  # (B, 1, 6D)
    d = x.shape[2]
    shift_attn, scale_attn, gate_attn = six[..., :d], six[..., d : 2 * d], six[..., 2 * d : 3 * d]  # (B, 1, D)
    shift_mlp, scale_mlp, gate_mlp = six[..., 3 * d : 4 * d], six[..., 4 * d : 5 * d], six[..., 5 * d :]  # (B, 1, D)
    h = layer_norm(x, shape.norm_eps) * (1 + scale_attn) + shift_attn  # (B, T, D)
    x = x + gate_attn * attention(weights, f"{name}.attn", h, shape.heads)  # (B, T, D)
    h = layer_norm(x, shape.mlp_norm_eps or shape.norm_eps) * (1 + scale_mlp) + shift_mlp  # (B, T, D)
    h = linear(gelu_tanh(linear(h, weights, f"{name}.mlp.fc1")), weights, f"{name}.mlp.fc2")  # (B, T, D)
    return x + gate_mlp * h  # (B, T, D)


def before_middle(weights: Weights, shape: Any, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """x_pre, (B, T, D)."""
    label, everything = conditioning(weights, shape, t, y)  # (B, D)
    kernel = weights["x_embedder.proj.weight"]  # (D, C, p, p)
    tokens = (
        patches(x, shape.patch_size) @ kernel.reshape(kernel.shape[0], -1).T + weights["x_embedder.proj.bias"]
    )  # (B, T, D)
    h = tokens + positions(shape.width, shape.image_size // shape.patch_size).to(tokens.dtype)  # (B, T, D)
    for i in range(shape.pre_blocks):
        h = block(weights, f"pre.{i}", h, everything if shape.timestep_everywhere else label, shape)  # (B, T, D)
    return h


def iteration(weights: Weights, shape: Any, z: Tensor, x_pre: Tensor, c: Tensor) -> Tensor:
    """f(z), (B, T, D), from beginning to end."""
    name = "middle.injection"
    if shape.injection == "mlp":
        u = linear(x_pre, weights, f"{name}.project")  # (B, T, D)
        hidden = linear(torch.cat([z, u], dim=2), weights, f"{name}.fc1")  # (B, T, 2D)
        h = linear(gelu_tanh(hidden), weights, f"{name}.fc2")  # (B, T, D)
    else:
        h = linear(z, weights, f"{name}.from_z") + linear(x_pre, weights, f"{name}.from_x")  # (B, T, D)
    for i in range(shape.middle_blocks):
        h = block(weights, f"middle.cell.{i}", h, c, shape)  # (B, T, D)
    return h


def forward(
    weights: Weights,
    shape: Any,
    x: Tensor,
    t: Tensor,
    y: Tensor | None,
    *,
    iterations: int,
    z0: Tensor | None = None,
) -> Output:
    """The whole network. A stack takes `iterations` and `z0` for the sake of one signature, and ignores them."""
    if y is None:
        y = torch.full((x.shape[0],), shape.num_classes)  # (B,)
    label, everything = conditioning(weights, shape, t, y)  # (B, D)
    outer = everything if shape.timestep_everywhere else label  # (B, D)
    x_pre = before_middle(weights, shape, x, t, y)  # (B, T, D)
    if shape.middle_kind == "stack":
        z = x_pre  # (B, T, D)
        for _ in range(shape.repeats):
            for i in range(shape.middle_blocks):
                z = block(weights, f"middle.blocks.{i}", z, everything, shape)  # (B, T, D)
    else:
        z = x_pre.detach() if z0 is None else z0  # (B, T, D)
        for _ in range(iterations):
            z = iteration(weights, shape, z, x_pre, everything)  # (B, T, D)
    h = z  # (B, T, D)
    for i in range(shape.post_blocks):
        h = block(weights, f"post.{i}", h, outer, shape)  # (B, T, D)
    two = linear(silu(outer), weights, "head.adaLN_modulation.1").unsqueeze(1)  # (B, 1, 2D)
    shift, scale = two[..., : shape.width], two[..., shape.width :]  # (B, 1, D)
    h = layer_norm(h, 1e-6) * (1 + scale) + shift  # (B, T, D)
    out = image(linear(h, weights, "head.linear"), shape.patch_size, shape.image_size)  # (B, C or 2C, H, W)
    if not shape.learn_variance:
        return Output(out, None, z)
    return Output(out[:, : shape.in_channels], out[:, shape.in_channels :], z)
