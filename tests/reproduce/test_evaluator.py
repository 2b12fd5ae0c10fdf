"""A second extractor checks the first one: of another kind, on the same images."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpdm.data.config import DataConfig
from fpdm.data.loading import load_images
from fpdm.evaluation.evaluator import Evaluator
from fpdm.reproduce.bench import RealImages
from fpdm.reproduce.evaluator import SECOND
from fpdm.reproduce.scale import QUICK


@pytest.mark.slow
def test_the_second_distance_is_that_of_data_without_classes(tmp_path: Path) -> None:
    both = RealImages(DataConfig("digits"), QUICK, tmp_path, None).evaluator
    without = Evaluator(load_images(DataConfig("digits", conditional=False)).splits)
    alone = Evaluator(both.splits)
    images = both.splits.train.images[:100]
    found = both.measure(images, seed=0)
    second, first = without.measure(images, seed=0), alone.measure(images, seed=0)
    for end in ("", "_low", "_high"):
        assert found[f"{SECOND}{end}"] == pytest.approx(second[f"distance{end}"], rel=1e-9)
        assert found[f"distance{end}"] == first[f"distance{end}"]
    floor = both.floor(100)
    assert floor["distance_floor"] == alone.floor(100)["distance_floor"]
    assert 0 < floor[f"{SECOND}_floor"] < found[SECOND] * 3


@pytest.mark.slow
def test_images_without_classes_have_one_extractor(tmp_path: Path) -> None:
    evaluator = RealImages(DataConfig("digits", conditional=False), QUICK, tmp_path, None).evaluator
    assert SECOND not in evaluator.measure(evaluator.splits.train.images[:50], seed=0)
