"""Which images of a folder a cache keeps from training, and what `--holdout` makes of that."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.compare.comparison import _check_images
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.loading import load_dataset, load_images
from fpdm.data.manifest import read_manifest
from fpdm.data.prepare import prepare
from fpdm.data.splits import SPLITS
from tests.autoencoders import tiny

FULL = CacheSettings(shard_size=4, dtype="float32")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> VAE:
    folder = tmp_path_factory.mktemp("autoencoder")
    tiny(folder, channels=3, scaling_factor=1.0)
    found = AutoencoderConfig(str(folder)).load()
    assert isinstance(found, VAE)
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 12 files, two of which are broken, and a class without a usable image."""
    rng = np.random.default_rng(3)
    for name in ("ant", "bee", "cow"):
        for i in range(12):
            path = tmp_path / "photos" / name / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    for name in ("ant/03.png", "cow/07.png", "ape/00.png"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_text("broken")
    return tmp_path / "photos"


def cached(photos: Path, vae: VAE, out: Path, settings: CacheSettings = FULL) -> DataConfig:
    prepare(DataConfig(str(photos), size=8), vae, out, settings)
    return DataConfig(str(out))


def test_a_folder_is_split_in_the_cache_as_in_memory(photos: Path, vae: VAE, tmp_path: Path) -> None:
    config = cached(photos, vae, tmp_path / "cache")
    latents, images = load_dataset(config), load_images(DataConfig(str(photos), size=8))
    assert latents.classes == images.classes == ("ant", "bee", "cow")
    for split in SPLITS:
        found, real = getattr(latents.splits, split), getattr(images.splits, split)
        assert torch.equal(found.labels, real.labels)
        everything = range(len(real))
        x0, _ = found.batch(everything)
        torch.testing.assert_close(x0, vae.encode(real.batch(everything)[0]).mean, rtol=1e-4, atol=1e-5)


def test_a_broken_file_moves_no_other_file_to_another_split(photos: Path) -> None:
    def content(split: str) -> set[bytes]:
        return {image.numpy().tobytes() for image in getattr(load_images(config).splits, split).images}

    config = DataConfig(str(photos), size=8)
    before = {split: content(split) for split in SPLITS}
    (photos / "bee" / "05.png").write_text("broken too")
    after = {split: content(split) for split in SPLITS}
    assert all(after[split] <= before[split] for split in SPLITS)
    assert sum(map(len, after.values())) == sum(map(len, before.values())) - 1


def test_holdout_replaces_the_folders_own_splits(photos: Path, vae: VAE, tmp_path: Path) -> None:
    for holdout, sizes in ((0, (34, 0, 0)), (5, (None, None, 0))):
        splits = load_dataset(cached(photos, vae, tmp_path / f"{holdout}", replace(FULL, holdout=holdout))).splits
        found = len(splits.train), len(splits.validation), len(splits.test)
        assert sum(found) == 34
        assert all(wanted in (None, size) for wanted, size in zip(sizes, found, strict=True))
    assert len(splits.validation) in (3, 4, 5)  # some of them may be broken


def test_a_named_cache_is_described_as_before(tmp_path: Path) -> None:
    """Its manifest, by whose hash runs know it, has no trace of the choice that only a folder has."""
    tiny(tmp_path / "grey", scaling_factor=1.0)
    vae = AutoencoderConfig(str(tmp_path / "grey"), pad=2).load()
    assert isinstance(vae, VAE)
    prepare(DataConfig("digits"), vae, tmp_path / "cache", batch_size=512)
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["settings"]["holdout"] == 0


def test_a_cache_from_before_is_resumed_with_holdout_0(photos: Path, vae: VAE, tmp_path: Path) -> None:
    cached(photos, vae, tmp_path / "cache", replace(FULL, holdout=0))
    with pytest.raises(ValueError, match=r"settings\.holdout: 0 -> None\); .* with --holdout 0$"):
        cached(photos, vae, tmp_path / "cache")


def test_strict_means_the_same_for_every_reader(photos: Path, vae: VAE, tmp_path: Path) -> None:
    for name in ("ant/03.png", "cow/07.png", "ape/00.png"):
        (photos / name).unlink()
    config = DataConfig(str(photos), size=8)
    for read in (
        lambda: load_images(config, strict=True),
        lambda: prepare(config, vae, tmp_path / "cache", FULL, strict=True),
    ):
        with pytest.raises(ValueError, match=r"the class folder .*ape has no image"):
            read()


def test_compare_measures_against_images_that_were_held_out(
    photos: Path, vae: VAE, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    def check(config: DataConfig, images: DataConfig) -> None:
        run = SimpleNamespace(recipe=SimpleNamespace(data=config))
        _check_images(SimpleNamespace(run=run, folder=tmp_path), images, load_images(images))  # type: ignore[arg-type]

    old, new = (
        cached(photos, vae, tmp_path / name, settings)
        for name, settings in (("old", replace(FULL, holdout=0)), ("new", FULL))
    )
    recwarn.clear()
    images = read_manifest(new.source).data
    check(new, images)
    moved = shutil.copytree(photos, tmp_path / "elsewhere" / "moved")
    check(new, replace(images, source=str(moved)))
    assert not recwarn.list
    with pytest.warns(RuntimeWarning, match="trained on the latents of all images"):
        check(old, images)
    shutil.copy(photos / "ant" / "00.png", photos / "ant" / "12.png")
    with pytest.raises(ValueError, match="trained on latents of other images"):
        check(new, images)
