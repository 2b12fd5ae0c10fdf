"""Seven small images, and sources made of them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from fpdm.data.config import DataConfig, HubSettings
from fpdm.data.decode import Decoder
from fpdm.data.sources.open import open_source
from fpdm.data.sources.source import Source

RANDOM = np.random.default_rng(5)
PIXELS = RANDOM.integers(0, 256, (7, 6, 6, 3), dtype=np.uint8)  # (N, H, W, 3)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def opened(source: Path | str, *, holdout: int | None = 0, **hub: object) -> Source:
    return open_source(DataConfig(str(source)), hub=HubSettings(**hub), holdout=holdout)  # type: ignore[arg-type]


def read(source: Source, start: int = 0, stop: int = 100, split: str = "train") -> list[tuple[int, int]]:
    """Which of PIXELS each image is, and its label."""
    found = []
    for raw in source.parts[split].read(start, stop):
        assert not isinstance(raw.image, np.ndarray)
        decoded = Decoder(6)(raw.image)
        assert not isinstance(decoded, str), decoded
        (which,) = np.flatnonzero((PIXELS.transpose(0, 3, 1, 2) == decoded.pixels).all(axis=(1, 2, 3)))
        found.append((int(which), raw.label))
    return found


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, value in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            archive.addfile(info, io.BytesIO(value))
