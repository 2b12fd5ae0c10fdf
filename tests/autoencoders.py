"""Autoencoders so small that they take no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL


def tiny(folder: Path, *, channels: int = 1, pad: int | None = None, **settings: object) -> Any:
    """Save one of factor 2, with latents of 4 channels, as the hub has it.

    Any: diffusers says of what its networks return that it is a tuple.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoencoderKL(
            **{
                "in_channels": channels,
                "out_channels": channels,
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
                "block_out_channels": (8, 8),
                "norm_num_groups": 4,
                "sample_size": 8,
                "scaling_factor": 0.5,
                "mid_block_add_attention": False,
                **settings,
            }
        )
    model.save_pretrained(folder)
    if pad is not None:
        (folder / "fpdm.json").write_text(json.dumps({"pad": pad}))
    return model.eval()


def images(count: int = 3, size: int = 8, channels: int = 1) -> torch.Tensor:
    """(N, C, H, W) in [-1, 1]."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1
