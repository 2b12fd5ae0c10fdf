"""Runs of two steps on real digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fpdm.data.sources.named import load
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.runs.recipes import make_recipe
from fpdm.training.trainer import Trainer

SHAPE = TransformerConfig(
    image_size=8, in_channels=1, patch_size=4, width=16, heads=2, num_classes=10, learn_variance=False
)


def train_fpdm_and_dit(folder: Path) -> dict[str, Path]:
    """Train an FPDM and a DiT below a folder; return the folders of the runs by model."""
    for model, shape in {"fpdm": SHAPE, "dit": as_dit(SHAPE, 4)}.items():
        recipe = replace(make_recipe("digits", model, steps=2, batch_size=4), model=shape)
        Trainer(recipe, load("digits", "train"), folder / model).train()
    return {model: folder / model for model in ("fpdm", "dit")}
