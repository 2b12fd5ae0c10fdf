"""An autoencoder, photographs, and a cache of their latents."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from tests.autoencoders import tiny
from tests.data.caches import SMALL, made


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory) -> VAE:
    folder = tmp_path_factory.mktemp("autoencoder")
    tiny(folder, channels=3, scaling_factor=1.0)
    found = AutoencoderConfig(str(folder)).load()
    assert isinstance(found, VAE)
    return found


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 images of two classes, one of them broken."""
    root = tmp_path_factory.mktemp("set") / "photographs"
    rng = np.random.default_rng(1)
    for i in range(13):
        path = root / ("ant", "bee")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(path)
    (root / "bee" / "broken.png").write_text("no image")
    return root


@pytest.fixture(scope="session")
def cache(photographs: Path, vae: VAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that no test may change."""
    out = tmp_path_factory.mktemp("caches") / "cache"
    made(photographs, vae, out, dataclasses.replace(SMALL, flip=True, dtype="float32"))
    return out
