"""Small caches of latents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from fpdm.autoencoder.vae import VAE
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.prepare import Prepared, prepare
from fpdm.files import sha256_of

SMALL = CacheSettings(shard_size=5, holdout=0)


def made(photographs: Path, vae: VAE, out: Path, settings: CacheSettings = SMALL, **options: object) -> Prepared:
    found = prepare(DataConfig(str(photographs), size=8), vae, out, settings, batch_size=2, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def content(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir() if not path.name.startswith(".")}


def moved(cache: Path, to: Path) -> Path:
    to.mkdir()
    for name, value in content(cache).items():
        (to / name).write_bytes(value)
    return to


def damage(kind: str, cache: Path) -> None:
    path = cache / "train-00001.safetensors"
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif kind == "flipped":
        value = bytearray(path.read_bytes())
        value[-9] ^= 1
        path.write_bytes(value)
    else:
        tensors = safetensors.numpy.load_file(path)
        if kind == "shape":
            tensors["moments"] = tensors["moments"][..., :2].copy()
        elif kind == "label":
            tensors["labels"][2] = 7
        else:
            tensors["moments"][1, 0, 0, 0, 0, 0] = np.nan
        safetensors.numpy.save_file(tensors, path)
        values = json.loads((cache / "cache.json").read_text())
        shard = values["splits"]["train"][1]
        shard["bytes"], shard["sha256"] = path.stat().st_size, sha256_of(path)
        del values["sha256"]  # as earlier versions wrote it
        (cache / "cache.json").write_text(json.dumps(values))
