"""The evaluator: what it measures against which split, and that every registered measure is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.data.config import DataConfig
from fpdm.data.images import ImageSet
from fpdm.data.loading import load_dataset
from fpdm.data.splits import Splits
from fpdm.evaluation import evaluator as module
from fpdm.evaluation.evaluator import Evaluator, check_measurable, with_labels
from fpdm.evaluation.measure import Measure

pytestmark = pytest.mark.filterwarnings("ignore:.*images for features")  # few, to be quick
DATA = load_dataset(DataConfig("digits"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def test_a_new_measure_is_one_entry_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, images = Evaluator(DATA.splits), DATA.splits.validation.images[:30]
    before = evaluator.measure(images, seed=0)
    brightness = Measure(
        lambda generated, real, seed: {"excess": float(generated.values.mean() - real.test.values.mean()) + seed},
        floor=lambda training, real: {"excess_floor": float(training.values.mean() - real.test.values.mean())},
    )
    monkeypatch.setattr(module, "MEASURES", (*module.MEASURES, brightness))
    after = evaluator.measure(images, seed=0)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"excess"}
    assert evaluator.floor(20).keys() == {"distance_floor", "kid_floor", "excess_floor"}


def test_choosing_uses_validation_and_reporting_the_test_split() -> None:
    def constant(value: int) -> ImageSet:
        rng = torch.Generator().manual_seed(value)
        images = (value + torch.randint(0, 20, (90, 1, 8, 8), generator=rng)).to(torch.uint8)
        return ImageSet("digits", images, torch.arange(90) % 10, 10)

    train = load_dataset(DataConfig("digits")).splits.train
    evaluator = Evaluator(Splits(train, constant(40), constant(200)))
    near_validation, near_test = constant(40).images, constant(200).images
    assert evaluator.choosing_distance(near_validation) < evaluator.choosing_distance(near_test)
    assert evaluator.measure(near_test, seed=0)["distance"] < evaluator.measure(near_validation, seed=0)["distance"]


def test_memorised_images_show() -> None:
    evaluator = Evaluator(DATA.splits)
    copies = evaluator.measure(DATA.splits.train.images[:60], seed=0)
    fresh = evaluator.measure(DATA.splits.validation.images[:60], seed=0)
    assert copies["novelty"] < 0.05 < 0.5 < fresh["novelty"] < 2.0
    shown = evaluator.nearest_training(DATA.splits.train.images[7:9])
    assert torch.equal(shown, DATA.splits.train.images[7:9])


def test_real_images_with_the_labels_of_generated_ones() -> None:
    data = DATA.splits.train
    labels = [*range(10), 3, 3, 0]
    images = with_labels(data, labels)
    for label, image in zip(labels, images, strict=True):
        same = (data.images == image).flatten(1).all(dim=1)
        assert (data.labels[same] == label).any()
    assert len(np.unique(images.numpy(), axis=0)) == len(labels)


def test_classes_are_measured_in_the_proportions_that_they_have() -> None:
    """A model that draws as the data are drawn comes near the floor, however uneven the classes are."""
    one, other = (part[:, None] for part in (torch.zeros(1), torch.full((1,), 200.0)))
    rng = torch.Generator().manual_seed(0)

    def uneven(ones: int, others: int) -> ImageSet:
        labels = torch.tensor([0] * ones + [1] * others)
        means = torch.where(labels == 0, one, other).view(-1, 1, 1, 1)
        noise = torch.randint(0, 50, (len(labels), 1, 8, 8), generator=rng)
        return ImageSet("uneven", (means + noise).to(torch.uint8), labels, 2)

    splits = Splits(uneven(180, 20), uneven(45, 5), uneven(90, 10))
    evaluator = Evaluator(splits)
    labels = evaluator.labels(100)
    assert labels.count(1) == 10
    assert evaluator.labels(37) == labels[:37]
    assert evaluator.floor_images(150) == 150
    assert 195 <= evaluator.floor_images(1000) <= 200  # all of one class are used up
    floor = evaluator.floor(100)["distance_floor"]
    drawn_alike = evaluator.measure(with_labels(uneven(90, 10), labels), seed=0)["distance"]
    in_turn = evaluator.measure(with_labels(uneven(90, 90), [0, 1] * 50), seed=0)["distance"]
    assert drawn_alike < 5 * floor
    assert in_turn > 10 * drawn_alike


def test_splits_too_small_to_measure_with_are_refused_before_anything_is_trained() -> None:
    images = torch.randint(0, 255, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)

    def part(count: int) -> ImageSet:
        return ImageSet("few", images[:count], torch.zeros(count, dtype=torch.int64), 0)

    with pytest.raises(ValueError, match="test split of 'few' has 3 images; expected 4 or more"):
        check_measurable(Splits(part(8), part(2), part(3)))
    with pytest.raises(ValueError, match="validation split of 'few' has 1 images; expected 2 or more"):
        check_measurable(Splits(part(8), part(1), part(4)))
