"""Latent diffusion from end to end: images to latents, a run on them, and its samples judged as images."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.compare import comparison as compare_module
from fpdm.compare.comparison import compare
from fpdm.compare.settings import Settings
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.loading import load_dataset
from fpdm.data.prepare import prepare
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import load_run
from fpdm.runs.samples import sample_to_folder
from fpdm.sampling.plan import Plan
from fpdm.training.trainer import Trainer
from tests.autoencoders import tiny

PLAN = Plan(8, 2)
PIXELS = make_recipe("digits", steps=2, batch_size=2, no_grad_iters=0, grad_iters=1, sample_every=2, validate_every=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an autoencoder, latents of the digits, and a run on them."""
    root = tmp_path_factory.mktemp("latents")
    tiny(root / "autoencoder", scaling_factor=1.0)
    autoencoder = AutoencoderConfig(str(root / "autoencoder")).load()
    assert isinstance(autoencoder, VAE)
    prepare(DataConfig("digits"), autoencoder, root / "cache")
    data = load_dataset(DataConfig(str(root / "cache")))
    plan = replace(PIXELS, name="latents", data=DataConfig(str(root / "cache")))
    plan = replace(plan, model=replace(plan.model, image_size=4, in_channels=4)).fitted(data.splits.train)
    Trainer(plan, data.splits.train, root / "run", validation=data.splits.validation).train()
    return root


def test_a_run_on_latents_shows_images_while_it_trains(root: Path) -> None:
    with Image.open(root / "run" / "samples" / "step-000000002.png") as sheet:
        assert sheet.width > 500
    run = load_run(root / "run")
    assert run.recipe.autoencoder.sha256 == run.autoencoder.sha256 != ""
    assert run.image_shape == (1, 8, 8)


def test_its_samples_are_images_whatever_the_batch(root: Path, tmp_path: Path) -> None:
    run = load_run(root / "run")
    for batch_size in (1, 3):
        sample_to_folder(run, PLAN, 3, tmp_path / str(batch_size), seed=0, batch_size=batch_size)
    with torch.no_grad():
        expected = run.sampler(PLAN, seed=0)(range(3), [0, 1, 2]).pixels  # (3, 1, 8, 8)
    for index in range(3):
        files = [np.asarray(Image.open(tmp_path / name / f"{index:06d}.png")) for name in "13"]
        assert files[0].shape == (8, 8)
        assert np.abs(files[0].astype(int) - files[1]).max() <= 1  # rounding
        assert np.abs(files[0].astype(int) - expected[index, 0].numpy()).max() <= 1
    settings = json.loads((tmp_path / "1" / "sampling.json").read_text())
    assert settings["autoencoder_sha256"] == run.autoencoder.sha256


def test_an_autoencoder_that_moved_is_asked_for(root: Path) -> None:
    (root / "autoencoder").rename(root / "moved")
    try:
        with pytest.raises(ValueError, match="--autoencoder"):
            load_run(root / "run").sampler(PLAN)
        assert load_run(root / "run", autoencoder=str(root / "moved")).sampler(PLAN)([0], [0]).pixels.shape[1:] == (
            1,
            8,
            8,
        )
        with pytest.warns(RuntimeWarning, match="no samples are drawn during training"):
            _resumed(root / "run")
    finally:
        (root / "moved").rename(root / "autoencoder")


def _resumed(run: Path) -> None:
    plan = Recipe.from_json((run / "recipe.json").read_text())
    Trainer(plan, load_dataset(plan.data).splits.train, run).train()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*images for features")  # few, to be quick
def test_runs_on_latents_and_on_pixels_compare_on_the_images(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load_dataset(DataConfig("digits"))
    Trainer(replace(PIXELS, name="pixels"), data.splits.train, tmp_path / "pixels").train()
    settings = Settings(
        budgets=(8,),
        iterations=(2,),
        allocations=("constant",),
        grids=("trailing",),
        num_images=(20,),
        choosing_images=12,
        batch_size=20,
    )
    found = compare([root / "run", tmp_path / "pixels"], tmp_path / "out", settings)
    assert found.data == "digits"
    latent, pixel = found.rows
    assert (latent.model, pixel.model) == ("latents", "pixels")
    assert (latent.distance_floor, latent.images) == (pixel.distance_floor, pixel.images)
    assert np.isfinite(latent.distance)
    assert [model.validation[0][1] > 0 for model in found.models] == [True, True]
    # 4 times fewer tokens, and the decoder's share is counted.
    run = load_run(root / "run")
    assert latent.macs > run.autoencoder.decoding_macs((4, 4, 4)) > 0
    again = compare([root / "run", tmp_path / "pixels"], tmp_path / "out", settings)
    assert again.rows == found.rows


class _CheckedError(Exception):
    """All that compare checks before it measures is as it should be."""


def test_a_cache_that_moved_is_told_from_others_by_its_hash(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(*_: object) -> None:
        raise _CheckedError

    monkeypatch.setattr(compare_module, "check_measurable", checked)
    cache, there = shutil.copytree(root / "cache", tmp_path / "cache"), tmp_path / "there"
    data = load_dataset(DataConfig(str(cache)))
    plan = replace(Recipe.read(root / "run" / "recipe.json"), data=DataConfig(str(cache)), images=data.sha256)
    Trainer(plan, data.splits.train, tmp_path / "run").train()
    cache.rename(there)
    autoencoder = AutoencoderConfig(str(root / "autoencoder")).load()
    assert isinstance(autoencoder, VAE)
    prepare(DataConfig("digits"), autoencoder, tmp_path / "other", replace(CacheSettings(), flip=True))
    runs = [tmp_path / "run"]
    for latents in ([], [tmp_path / "other"], [tmp_path / "none"]):
        looked = " or ".join(map(str, [cache, *latents]))
        with pytest.raises(ValueError, match=f"are not in {re.escape(looked)}; say where they are with --latents"):
            compare(runs, tmp_path / "out", Settings((8,)), latents=latents)
    for latents in ([there], [tmp_path / "other", there]):
        with pytest.raises(_CheckedError):
            compare(runs, tmp_path / "out", Settings((8,)), latents=latents)
    # Another cache where this one was.
    (tmp_path / "other").rename(cache)
    with pytest.raises(ValueError, match="say where they are with --latents"):
        compare(runs, tmp_path / "out", Settings((8,)))
    with pytest.raises(_CheckedError):
        compare(runs, tmp_path / "out", Settings((8,)), latents=[there])
