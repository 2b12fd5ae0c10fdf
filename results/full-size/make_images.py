"""16 random images of 256 x 256 in two class folders, and a narrow autoencoder of factor 8 with random weights.

python results/full-size/make_images.py
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

rng = np.random.default_rng(0)
for label in range(2):
    folder = Path("images") / f"n{label}"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(8):
        pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)  # (H, W, C)
        Image.fromarray(pixels).save(folder / f"{i}.png")
torch.manual_seed(0)
AutoencoderKL(
    in_channels=3,
    out_channels=3,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(8,) * 4,
    norm_num_groups=4,
    latent_channels=4,
    sample_size=256,
    scaling_factor=1.0,
    mid_block_add_attention=False,
).save_pretrained("vae")
