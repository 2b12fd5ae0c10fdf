"""What a cached result is read from: its own file, or the file and PNG of earlier versions."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from fpdm.compare import results_cache as module
from fpdm.compare.results_cache import NamedRun, ResultsCache
from fpdm.compare.settings import SHOWN, Settings
from fpdm.diffusion.schedule import Schedule
from fpdm.drawing.images import save_png, tile
from fpdm.evaluation.evaluator import Evaluator
from fpdm.models.config import preset
from fpdm.models.cost import model_cost
from fpdm.runs.run import Run
from fpdm.sampling.images import SamplingCost
from fpdm.sampling.plan import Plan
from tests.compare.made import comparison, images

PLAN = Plan(35, 3)
MADE = images(20, 1, 8, seed=4)
ROW = comparison(1, (35,), ("ddim",)).rows[0]


class Measured:
    """An evaluator that measures nothing."""

    extractor = SimpleNamespace(identity="e")
    class_sizes = (5, 5)

    def measure(self, images: torch.Tensor, *, seed: int) -> dict[str, float]:
        names = "distance distance_low distance_high kid kid_low kid_high precision recall novelty other"
        return dict.fromkeys(names.split(), 0.5)

    def floor(self, count: int) -> dict[str, float]:
        return {"distance_floor": 0.1, "kid_floor": 0.2, "other_floor": 0.3}

    def floor_images(self, count: int) -> int:
        return 7

    def labels(self, count: int) -> list[int]:
        return [i % 2 for i in range(count)]


@pytest.fixture
def run() -> NamedRun:
    model = SimpleNamespace(shape=SimpleNamespace(num_classes=2), cost=lambda: model_cost(preset("fpdm-digits")))
    made = SimpleNamespace(
        model=model,
        weights="w",
        autoencoder=SimpleNamespace(sha256=""),
        recipe=SimpleNamespace(name="small", schedule=Schedule()),
        image_shape=(1, 8, 8),
    )
    return NamedRun("here", Path("run"), cast(Run, made))


@pytest.fixture
def cache(tmp_path: Path) -> ResultsCache:
    return ResultsCache(tmp_path, cast(Evaluator, Measured()), "data", Settings())


def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []

    def draw(run: Run, plan: Plan, labels: list[int], **_: object) -> tuple[torch.Tensor, SamplingCost]:
        counted.append(len(labels))
        return MADE[: len(labels)], SamplingCost(len(labels), 100.0, 1000.0, 10.0)

    monkeypatch.setattr(module, "draw", draw)
    return counted


def test_seconds_are_those_of_the_fastest_of_several_batches(
    cache: ResultsCache, run: NamedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def draw(run: Run, plan: Plan, labels: list[int], *, batch_size: int, **_: object) -> object:
        sizes.append(batch_size)
        return MADE[: len(labels)], SamplingCost(len(labels), 100.0, 1000.0, 10.0, (0.9, 0.2, 0.4))

    monkeypatch.setattr(module, "draw", draw)
    found = cache.with_plan(run, PLAN, 20).result
    assert (found.seconds, found.batches) == (0.2, 3)
    assert sizes == [7]  # three batches, though one would have held all


def test_a_result_and_its_first_images_are_one_file(
    cache: ResultsCache, run: NamedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = draws(monkeypatch)
    first = cache.with_plan(run, PLAN, 20)
    assert (first.result.passes, first.result.macs, first.result.seconds) == (5.0, 50.0, 0.5)
    assert first.result.measures == {"other": 0.5, "other_floor": 0.3}
    assert torch.equal(first.images, MADE[:SHOWN])
    again = cache.with_plan(run, PLAN, 20)
    assert again.result == first.result
    assert torch.equal(again.images, first.images)
    assert counted == [20]
    assert [path.suffix for path in cache.folder.iterdir()] == [".json"]


@pytest.mark.parametrize("damage", ["{", "lost", "other"])
def test_a_damaged_file_is_made_again(
    damage: str, cache: ResultsCache, run: NamedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = draws(monkeypatch)
    cache.with_plan(run, PLAN, 20)
    (path,) = cache.folder.iterdir()
    known = json.loads(path.read_text())
    if damage == "lost":
        del known["images"]
    elif damage == "other":
        known["images"] = base64.b64encode(b"no picture").decode()
    path.write_text(damage if damage == "{" else json.dumps(known))
    assert torch.equal(cache.with_plan(run, PLAN, 20).images, MADE[:SHOWN])
    assert counted == [20, 20]


def test_rows_of_earlier_versions_with_a_picture_beside_them_are_read(
    cache: ResultsCache, run: NamedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = draws(monkeypatch)
    cache.with_plan(run, PLAN, 20)
    (path,) = cache.folder.iterdir()
    old = asdict(ROW)
    del old["measures"], old["floor_images"]
    path.write_text(json.dumps({"asked": {}, "result": old}))
    save_png(tile(MADE[:SHOWN], SHOWN, gap=0), path.with_suffix(".png"))
    found = cache.with_plan(run, PLAN, 20)
    assert counted == [20]
    assert (found.result.distance, found.result.model, found.result.floor_images) == (ROW.distance, "here", 7)
    assert torch.equal(found.images, MADE[:SHOWN])
