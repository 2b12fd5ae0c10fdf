from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.autoencoder.vae import VAE
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.latents import open_cache
from fpdm.data.loading import load_dataset, load_images
from fpdm.data.sources.named import load
from fpdm.runs.recipes import make_recipe
from tests.data.caches import SMALL, made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
        for place in range(4):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{place}.png")
    return root


def test_named_data_is_what_load_gives() -> None:
    found = load_dataset(DataConfig("digits"))
    for part, split in zip(
        (found.splits.train, found.splits.validation, found.splits.test), ("train", "validation", "test"), strict=True
    ):
        assert torch.equal(part.images, load("digits", split).images)
    assert found.classes == tuple("0123456789")
    assert found.summary is None


def test_a_folder_has_its_classes_and_a_summary(photos: Path) -> None:
    found = load_dataset(DataConfig(str(photos), size=16, channels=1))
    assert found.classes == ("cats", "dogs")
    assert found.summary is not None
    assert found.summary.images == 8
    assert found.splits.train.shape == (1, 16, 16)
    assert sum(len(part) for part in (found.splits.train, found.splits.validation, found.splits.test)) == 8


def test_unconditional_data_has_the_same_images_without_classes(photos: Path) -> None:
    config = DataConfig(str(photos), size=16)
    with_classes, without = load_dataset(config), load_dataset(replace(config, conditional=False))
    assert torch.equal(with_classes.splits.train.images, without.splits.train.images)
    assert without.splits.train.num_classes == 0
    assert not without.splits.train.labels.any()
    assert without.classes == ()


def test_the_hash_is_of_images_labels_and_their_division(photos: Path) -> None:
    config = DataConfig(str(photos), size=16)
    first = load_dataset(config).sha256
    assert load_dataset(config).sha256 == first
    assert load_dataset(replace(config, flip=True)).sha256 == first
    assert load_dataset(replace(config, size=8)).sha256 != first
    assert load_dataset(replace(config, conditional=False)).sha256 != first
    (photos / "cats" / "3.png").rename(photos / "dogs" / "4.png")
    assert load_dataset(config).sha256 != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, "source is ''"),
        ({"size": 0}, "size is 0; expected 1 to 65,536 pixels"),
        ({"size": 1.5}, "size is 1.5"),
        ({"channels": 4}, "channels is 4"),
        ({"flip": "yes"}, "flip is 'yes'; expected true or false"),
        ({"conditional": 1}, "conditional is 1"),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(**{"source": "digits", **changes})


def test_a_root_is_for_named_data(photos: Path) -> None:
    with pytest.raises(ValueError, match="data-root"):
        load_dataset(DataConfig(str(photos)), root=photos)


def test_a_recipe_is_fitted_to_its_images(photos: Path) -> None:
    config = DataConfig(str(photos), size=16)
    fitted = make_recipe("folder", "dit-4", data=config).fitted(load_dataset(config).splits.train)
    assert (fitted.model.num_classes, fitted.model.image_size, fitted.model.in_channels) == (2, 16, 3)
    assert make_recipe("digits").fitted(load("digits", "train")) == make_recipe("digits")


def test_classes_of_one_image_are_refused_only_where_they_are_learned(photos: Path, vae: VAE, tmp_path: Path) -> None:
    for name in ("owls", "hens"):
        (photos / name).mkdir()
        (photos / name / "0.png").write_bytes((photos / "dogs" / "0.png").read_bytes())
    config = DataConfig(str(photos), size=8)
    with pytest.raises(ValueError, match=r"fewer than 3 images of 2 classes: hens \(1\), owls \(1\); .*no-conditional"):
        load_dataset(config)
    without = load_dataset(replace(config, conditional=False)).splits
    parts = load_images(config, learn_classes=False).splits
    assert torch.equal(without.train.images, parts.train.images)
    assert parts.train.num_classes == 0
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 10
    # A cache has no use for classes either, and all of these are trained on.
    made(photos, vae, tmp_path / "cache", replace(SMALL, holdout=None))
    assert load_dataset(DataConfig(str(tmp_path / "cache"))).splits.train.num_classes == 4


def test_a_class_without_an_image_to_train_on_is_not_learned(photos: Path, vae: VAE, tmp_path: Path) -> None:
    (photos / "owls").mkdir()
    (photos / "owls" / "0.png").write_bytes((photos / "dogs" / "0.png").read_bytes())
    for holdout in range(1, 9):
        out = tmp_path / f"cache-{holdout}"
        held = made(photos, vae, out, CacheSettings(holdout=holdout))
        assert held.manifest.classes == ("cats", "dogs", "owls")
        if "owls" not in {tuple(held.manifest.classes)[label] for label in _train_labels(out)}:
            break
    else:
        raise AssertionError("the image of owls is never held out")
    with pytest.raises(ValueError, match=r"has no image to train on of .*owls.*--no-conditional"):
        load_dataset(DataConfig(str(out)))
    assert load_dataset(DataConfig(str(out), conditional=False)).splits.train.num_classes == 0


def _train_labels(cache: Path) -> list[int]:
    _, parts = open_cache(cache)
    return parts["train"].labels.tolist()
