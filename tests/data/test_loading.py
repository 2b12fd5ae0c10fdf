from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.data.config import DataConfig
from fpdm.data.loading import load_dataset
from fpdm.data.sources.named import load
from fpdm.runs.recipes import make_recipe


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for place in range(4):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{place}.png")
    return tmp_path


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
