"""A run so small that a step takes milliseconds."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from fpdm.data.config import DataConfig
from fpdm.data.images import ImageSet
from fpdm.files import sha256_of
from fpdm.models.config import TransformerConfig
from fpdm.runs.recipe import Recipe
from fpdm.runs.train_config import TrainConfig

SHAPE = TransformerConfig(
    image_size=4, in_channels=1, patch_size=2, width=16, heads=2, num_classes=3, learn_variance=False
)
TRAIN = TrainConfig(
    steps=7,
    batch_size=5,
    learning_rate=1e-2,
    warmup=4,
    no_grad_iters=2,
    grad_iters=2,
    checkpoint_every=3,
    log_every=2,
    sample_every=0,
    tracker="none",
)


def recipe(**changes: object) -> Recipe:
    return Recipe("small", DataConfig("digits"), SHAPE, replace(TRAIN, **changes))


def data(n: int = 12) -> ImageSet:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 1, 4, 4), generator=rng).to(torch.uint8)  # (N, 1, 4, 4)
    return ImageSet("digits", images, torch.arange(n) % 3, 3)


def saved(run: Path, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, by file and name."""
    folder = run / "checkpoints" / f"step-{step:09d}"
    return {
        f"{file.relative_to(folder)}:{name}": value
        for file in sorted(folder.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def make_old(run: Path) -> None:
    """Turn a run's checkpoints into what fpdm 0.1.0 wrote."""
    for manifest in run.glob("checkpoints/*/manifest.json"):
        state = manifest.with_name("state.json")
        state.write_text(json.dumps({**json.loads(state.read_text()), "format": 1, "window": [[0.5, 0.5]]}))
        listing = json.loads(manifest.read_text())
        listing["files"]["state.json"] = {"bytes": state.stat().st_size, "sha256": sha256_of(state)}
        manifest.write_text(json.dumps({**listing, "format": 1}))
