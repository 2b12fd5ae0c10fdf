"""Foreign checkpoints with random weights, as files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor

from tests.oracle import authors

SIZE = authors.Size(width=24, heads=3, patch=2, side=8, channels=4, out=8, classes=5, mlp=96)


def dit_blocks(depth: int) -> list[str]:
    return [f"blocks.{i}" for i in range(depth)]


def fpdm_blocks(pre: int, post: int) -> list[str]:
    return [*(f"blocks_pre.{i}" for i in range(pre)), "block_fixed_point", *(f"blocks_post.{i}" for i in range(post))]


def dit(depth: int = 4, size: authors.Size = SIZE, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return authors.checkpoint(size, dit_blocks(depth), fixed_point=False, dtype=dtype, seed=1)


def fpdm(
    pre: int = 1, post: int = 1, size: authors.Size = SIZE, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    return authors.checkpoint(size, fpdm_blocks(pre, post), fixed_point=True, dtype=dtype, seed=2)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)  # noqa: TID251  # a foreign file
    return path


def training_checkpoint(weights: dict[str, Tensor], args: Any, *, steps: int = 7000) -> dict[str, Any]:
    """As DiT's and the authors' code save it; the raw weights are twice the averaged ones."""
    raw = {name: value if name == "pos_embed" else 2 * value for name, value in weights.items()}
    return {"model": raw, "ema": weights, "opt": {"state": {}, "param_groups": []}, "args": args, "train_steps": steps}


def namespace(**values: Any) -> argparse.Namespace:
    return argparse.Namespace(**values)


def diffusers_model(depth: int = 3) -> DiTTransformer2DModel:
    """Small, all weights random and none zero; the blocks share one embedder, as in released weights."""
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=depth,
        sample_size=8,
        num_embeds_ada_norm=5,
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape) / fan_in**0.5)
        for block in model.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model
