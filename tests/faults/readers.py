"""What of the world's files is read, and by whom."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import safetensors

from fpdm.fid.feature_shards import FeatureShards
from fpdm.files import read_json
from tests.faults.changes import Reader, of_cache, of_reference, of_run, of_samples, of_shards
from tests.faults.world import COMMANDS, made


def _files(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith("."))


def readers(world: Path, kept: Path) -> dict[str, tuple[list[Path], Reader]]:
    """Return the files whose bytes are changed, and their reader, by a name; `kept` is a folder for some of them."""
    made(f"{COMMANDS['evaluated']} --keep", world, kept)
    pieces = _files(kept / "pieces")
    with safetensors.safe_open(pieces[0], "pt") as file:
        fingerprint = file.metadata()["fingerprint"]
    shards = FeatureShards(kept / "pieces", 8, 4, fingerprint, "x")
    settings = read_json(world / "sampled" / "sampling.json")
    cache = [path for path in _files(world / "cache") if path.suffix == ".safetensors" or path.name == "cache.json"]
    return {
        "checkpoint": (_files(world / "run" / "checkpoints"), partial(of_run, world / "run")),
        "cache": (cache, partial(of_cache, world / "cache")),
        "statistics": ([world / "ref.npz"], partial(of_reference, world / "ref.npz")),
        "features": (pieces, partial(of_shards, shards)),
        "samples": (
            [world / "sampled" / name for name in ("000000.png", "000001.png", "000002.png", "sampling.json")],
            partial(of_samples, world / "sampled", settings, 3),
        ),
    }
