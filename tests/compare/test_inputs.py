"""On which images runs are compared; the rest is tested in test_comparison.py and in runs/test_latent_runs.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.compare.inputs import find_images, images_of
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from tests.training.small import SHAPE, recipe


def test_images_are_found_where_the_first_run_has_them_or_where_they_are_said_to_be(tmp_path: Path) -> None:
    gone, here = DataConfig(str(tmp_path / "gone"), size=8), DataConfig(str(tmp_path), size=8)
    unknown = DataConfig(UNKNOWN, size=8)
    assert find_images([gone, here], "") == here
    assert find_images([unknown, here], "") == here
    assert find_images([gone], "moved") == replace(gone, source="moved")
    with pytest.raises(ValueError, match=r"are not in .*gone; say where they are with --data"):
        find_images([gone, unknown], "")


def test_the_images_of_a_run_of_pixels_are_those_it_was_trained_on() -> None:
    run = Run(recipe(), DiffusionTransformer.from_shape(SHAPE), Progress(), "")
    assert images_of(run) == DataConfig("digits")
