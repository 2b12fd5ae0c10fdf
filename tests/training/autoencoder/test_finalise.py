"""A trained autoencoder saved, loaded again, and judged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import DataConfig
from fpdm.data.images import to_float
from fpdm.data.loading import load_dataset
from fpdm.data.splits import Splits
from fpdm.errors import RunError
from fpdm.evaluation.evaluator import Evaluator
from fpdm.files import read_json
from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from fpdm.training.autoencoder.finalise import AutoencoderReport, finalise, measure_latents, reconstruction_error
from fpdm.training.autoencoder.trainer import AutoencoderTrainer
from tests.autoencoders import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*images for features")  # few, to be quick


def few(splits: Splits) -> Splits:
    """The first images of each part."""
    parts = (splits.train, splits.validation, splits.test)
    return Splits(*(replace(part, images=part.images[:120], labels=part.labels[:120]) for part in parts))


SPLITS = few(load_dataset(DataConfig("digits")).splits)
RECIPE = AutoencoderRecipe(
    DataConfig("digits"),
    AutoencoderShape(stage_channels=(4, 8), latent_channels=2, pad=1),
    AutoencoderTrainConfig(steps=6, batch_size=8, warmup=2),
    images="abc",
)


def trained(out: Path) -> AutoencoderTrainer:
    trainer = AutoencoderTrainer(RECIPE, SPLITS.train, out, device=torch.device("cpu"))
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AutoencoderReport, AutoencoderTrainer]:
    out, cache = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        trainer = trained(out)
        return out, finalise(trainer, SPLITS, command="fpdm train-autoencoder digits"), trainer


Made = tuple[Path, AutoencoderReport, AutoencoderTrainer]


def test_it_loads_as_it_was_trained_with_its_padding(made: Made) -> None:
    out, report, trainer = made
    found = AutoencoderConfig(str(out)).load()
    assert (found.config.pad, found.sha256) == (1, report.sha256)
    assert found.latent_shape((1, 8, 8)) == report.latent_shape == (2, 5, 5)
    plain: Any = AutoencoderKL.from_pretrained(out)
    for name, value in trainer.averaged().state_dict().items():
        assert torch.equal(plain.state_dict()[name], value)
    assert plain.config.scaling_factor == report.scaling_factor


def test_scaled_latents_have_mean_0_and_standard_deviation_1(made: Made) -> None:
    out, report, _ = made
    posterior = AutoencoderConfig(str(out)).load().encode(to_float(SPLITS.train.images))
    rng = torch.Generator().manual_seed(0)
    drawn = posterior.mean + posterior.std * torch.randn(posterior.std.shape, generator=rng)  # (N, 2, 5, 5)
    assert drawn.std().item() == pytest.approx(1.0, abs=0.03)
    assert drawn.mean().item() == pytest.approx(0.0, abs=0.03)
    assert report.scaling_factor == pytest.approx(1.0 / report.latents.std)


def test_statistics_are_those_of_all_latents_at_once(tmp_path: Path) -> None:
    tiny(tmp_path)
    autoencoder = AutoencoderConfig(str(tmp_path)).load()
    mean, std = autoencoder.encode(to_float(SPLITS.train.images))  # (N, 4, 4, 4) each
    found = measure_latents(autoencoder, replace(SPLITS.train))
    assert found.mean == pytest.approx(mean.mean().item(), abs=1e-6)
    assert found.std**2 == pytest.approx(mean.var(correction=0).item() + std.square().mean().item(), rel=1e-5)
    assert found.channel_means == pytest.approx(mean.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert found.posterior_std == pytest.approx(std.mean().item(), rel=1e-5)


def test_errors_are_of_pixels_between_0_and_1() -> None:
    images = torch.tensor([[0, 255], [10, 20]], dtype=torch.uint8).view(2, 1, 1, 2)
    other = torch.tensor([[51, 255], [10, 20]], dtype=torch.uint8).view(2, 1, 1, 2)
    found = reconstruction_error(images, other)
    assert found.mse == pytest.approx(0.2**2 / 4)
    assert found.l1 == pytest.approx(0.2 / 4)
    assert found.psnr == pytest.approx(-10 * math.log10(0.01))
    assert np.isfinite(found.psnr_mean)  # one image is right altogether
    assert found.images == 2


def test_it_is_judged_as_a_comparison_judges(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, report, _ = made
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    judge, autoencoder = Evaluator(SPLITS), AutoencoderConfig(str(out)).load()
    x = to_float(SPLITS.test.images)
    again = autoencoder.decode(autoencoder.encode(x).mean)  # (N, 1, 8, 8)
    assert report.distance == pytest.approx(judge.distance(again), rel=1e-3)
    assert report.test.psnr == pytest.approx(-10 * math.log10((again.clamp(-1, 1) - x).square().mean() / 4), abs=0.01)
    assert report.features == judge.extractor.name
    assert report.real_floor < report.floor  # six steps of training


def test_what_a_reader_finds_in_the_folder(made: Made) -> None:
    out, report, _ = made
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: diffusers\n")
    assert f"{report.test.psnr:.2f} dB" in card
    assert "fpdm train-autoencoder digits" in card
    assert (out / "reconstructions.png").stat().st_size > 1000
    assert read_json(out / "report.json") == json.loads(report.to_json())
    assert "scaling factor" in report.to_text()


def test_a_finished_one_is_not_judged_again_unless_it_is_damaged(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    out, report, _ = made

    def unexpected(*_: object) -> None:
        raise AssertionError("judged again")

    monkeypatch.setattr("fpdm.training.autoencoder.finalise.Evaluator", unexpected)
    again = trained(out)
    assert again.resumed_at == 6
    assert finalise(again, SPLITS) == report
    (out / "config.json").write_text("{}")
    with pytest.raises(AssertionError, match="judged again"):
        finalise(again, SPLITS)
    assert AutoencoderConfig(str(out), report.sha256).load().sha256 == report.sha256  # saved anew


def test_an_autoencoder_that_diverged_is_not_saved(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    with torch.no_grad():
        for parameter in (*trainer.model.parameters(), *trainer.ema.shadow_params):
            parameter.mul_(1e30)
    with pytest.raises(RunError, match=r"standard deviation (nan|inf): the training diverged"):
        finalise(trainer, SPLITS)
    assert not (tmp_path / "config.json").exists()
