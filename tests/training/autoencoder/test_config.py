"""The configuration of an autoencoder's training: ranges, the learning rate, and what a resumed one may change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fpdm.data.config import DataConfig
from fpdm.runs.progress import Progress
from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from tests.allocated import Peak

SHAPE = AutoencoderShape(stage_channels=(4, 4), latent_channels=2, pad=1)
RECIPE = AutoencoderRecipe(DataConfig("digits"), SHAPE, AutoencoderTrainConfig(), images="abc")


def test_the_rate_rises_then_falls_to_nothing_by_steps_or_seconds() -> None:
    config = AutoencoderTrainConfig(steps=100, learning_rate=1.0, warmup=10)
    assert config.rate(Progress(0)) == pytest.approx(0.1)
    assert config.rate(Progress(50)) == pytest.approx(0.5)
    assert config.rate(Progress(100)) == 0.0
    timed = replace(config, steps=0, seconds=60.0)
    assert timed.rate(Progress(1000, seconds=30.0)) == pytest.approx(0.5)
    assert replace(config, decay="constant").rate(Progress(90)) == 1.0


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (AutoencoderShape, {"stage_channels": ()}, "stage_channels is"),
        (AutoencoderShape, {"stage_channels": (8, 12), "groups": 8}, "each a multiple of groups"),
        (AutoencoderShape, {"pad": -1}, "pad is -1"),
        (AutoencoderTrainConfig, {"steps": 0}, "training never ends"),
        (AutoencoderTrainConfig, {"kl_weight": float("nan")}, "kl_weight is nan"),
        (AutoencoderTrainConfig, {"learning_rate": 0.0}, "above 0"),
        (AutoencoderTrainConfig, {"ema_decay": 1.0}, "below 1"),
        (AutoencoderTrainConfig, {"decay": "linear"}, "expected one of cosine, constant"),
        (AutoencoderTrainConfig, {"batch_size": 0}, "at least 1"),
    ],
)
def test_fields_out_of_range_are_refused(kind: type, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**changes)


def test_images_that_the_factor_does_not_divide_are_told_the_padding() -> None:
    shape = AutoencoderShape(stage_channels=(4, 4, 4))
    with pytest.raises(ValueError, match="expected --pad 1 or fewer stages"):
        shape.latent_shape((1, 30, 30))
    assert replace(shape, pad=1).latent_shape((1, 30, 30)) == (4, 8, 8)


def test_a_recipe_is_the_same_after_json(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(RECIPE.to_json())
    assert AutoencoderRecipe.read(tmp_path / "training.json") == RECIPE
    assert json.loads(RECIPE.to_json())["shape"]["pad"] == 1


def test_saving_and_the_path_of_the_images_may_change_and_the_rest_is_named(tmp_path: Path) -> None:
    free = replace(RECIPE.train, checkpoint_every=7, keep=9, log_every=3)
    assert replace(RECIPE, data=replace(RECIPE.data, source="fashion-mnist"), train=free).changes(RECIPE) == []
    other = replace(RECIPE, images="def", train=replace(RECIPE.train, batch_size=3))
    assert sorted(other.changes(RECIPE)) == ["images: abc -> def", "train.batch_size: 32 -> 3"]
    path = tmp_path / "training.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"training\.json is not JSON.*; choose another folder"):
        AutoencoderRecipe.read(path)


@pytest.mark.parametrize(
    ("shape", "samples"),
    [
        (AutoencoderShape(stage_channels=(8, 16), groups=4, pad=2), 16),
        (AutoencoderShape(stage_channels=(16, 32, 64), attention=True), 8),
        (AutoencoderShape(stage_channels=(8,), groups=4, layers=3, latent_channels=3), 4),
        (AutoencoderShape(stage_channels=(64, 128), latent_channels=2), 0),
        (AutoencoderShape(stage_channels=(8,), groups=8, latent_channels=100), 0),
    ],
)
def test_memory_of_a_step_is_below_what_exists_at_once_and_not_far(shape: AutoencoderShape, samples: int) -> None:
    image = (3, 16, 16)
    with Peak() as peak:
        model = shape.build(image)
        averages = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(2):  # the moments exist from the first step on
            pixels = F.pad(torch.zeros(max(samples, 1), *image), [shape.pad] * 4)  # (B, C, H, W)
            model.decode(model.encode(pixels).latent_dist.mean).sample.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert len(averages) == len(list(model.parameters()))
    assert 0.25 * peak.bytes < shape.training_memory(image, samples) <= peak.bytes
