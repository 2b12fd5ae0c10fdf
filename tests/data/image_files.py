"""Files of images, and names that files may have."""

import os

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)  # (H, W, 3)


def put(path, image=None, **options):
    """Write an array or an image under this name; by default noise of 6 x 6."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = NOISE if image is None else image
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, **options)
    return path


def plain(value, height=4, width=4):
    return np.full((height, width, 3), value, dtype=np.uint8)  # (H, W, 3)


ODD = ["-rf.png", "a\nb.png", "a\\nb.png", "tab\tand \u2028.png", "ünï 猫.png", os.fsdecode(b"\xff\xfe.png")]
