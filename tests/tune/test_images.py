"""Images of plans: drawn once, and the same however they are asked for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from fpdm.compare.inputs import NamedRun
from fpdm.evaluation.features import Features
from fpdm.evaluation.kid import kernel_distance
from fpdm.sampling.plan import Plan
from fpdm.tune.images import PlanImages
from tests.tune import made

PLAN = Plan(9, 1)


class Flat:
    """An extractor whose features are the pixels."""

    identity = "flat, 0"

    def features(self, images: torch.Tensor) -> Features:
        return Features(images.flatten(1).double() / 255, self.identity)


@pytest.fixture
def evaluator() -> Any:
    real = torch.rand(9, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # (M, F)
    return SimpleNamespace(
        extractor=Flat(),
        real=SimpleNamespace(validation=Features(real, Flat.identity)),
        class_sizes=(2, 2, 2),
        labels=lambda count: [i % 3 for i in range(count)],
    )


def images(folder: Path, evaluator: Any, drawn: list[int], seed: int = 0) -> PlanImages:
    def step(count: int) -> contextlib.AbstractContextManager[None]:
        drawn.append(count)
        return contextlib.nullcontext()

    one = NamedRun("small", folder, made.run())
    return PlanImages(folder, one, cast(Any, evaluator), "data", seed=seed, batch_size=4, step=step)


def test_more_images_are_added_to_those_that_are_there(tmp_path: Path, evaluator: Any) -> None:
    drawn: list[int] = []
    first = images(tmp_path / "a", evaluator, drawn)
    few = first.features(PLAN, 5).values
    more = images(tmp_path / "a", evaluator, drawn).features(PLAN, 12).values
    assert drawn == [5, 7]
    at_once = images(tmp_path / "b", evaluator, []).features(PLAN, 12).values
    torch.testing.assert_close(more, at_once, rtol=0, atol=1e-6)
    assert torch.equal(few, more[:5])
    assert torch.equal(first.features(PLAN, 5).values, few)
    assert drawn == [5, 7]
    cost = first.cost(PLAN)
    assert (cost.images, cost.passes) == (12, 12 * 9.0)


def test_the_distance_is_that_of_the_first_images(tmp_path: Path, evaluator: Any) -> None:
    judged = images(tmp_path, evaluator, [])
    everything = judged.features(PLAN, 12)
    few = Features(everything.values[:6], everything.extractor)  # rounded to float32, as it is kept
    assert judged.distance(PLAN, 6) == kernel_distance(few, evaluator.real.validation)


def test_others_have_other_files_and_a_damaged_one_is_drawn_again(tmp_path: Path, evaluator: Any) -> None:
    drawn: list[int] = []
    before = images(tmp_path, evaluator, drawn).features(PLAN, 4).values
    assert not torch.equal(images(tmp_path, evaluator, drawn, seed=1).features(PLAN, 4).values, before)
    images(tmp_path, evaluator, drawn).features(Plan(9, 1, reuse=False), 4)
    assert drawn == [4, 4, 4]
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    assert torch.equal(images(tmp_path, evaluator, drawn).features(PLAN, 4).values, before)
    assert drawn == [4, 4, 4, 4]
