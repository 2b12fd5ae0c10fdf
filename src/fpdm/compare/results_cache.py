"""The rows of a comparison: each is made once, kept in a file of its own, and taken from there later."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fpdm.compare.results import Result
from fpdm.compare.search import Trial, search
from fpdm.compare.settings import SHOWN, Settings
from fpdm.data.labels import balanced_labels
from fpdm.drawing.images import save_png, tile
from fpdm.evaluation.evaluator import Evaluator
from fpdm.files import write_atomically
from fpdm.runs.run import Run
from fpdm.sampling.budget import Budget
from fpdm.sampling.plan import Plan

_VERSION = 1  # raise it when rows mean something else, so that none of before is taken up


@dataclass(frozen=True)
class Drawn:
    """Images of a plan and what they cost.

    Attributes:
        images: (N, C, H, W) uint8.
        passes: Block passes per image.
        macs: Multiply-accumulates per image.
        seconds: Per image.
    """

    images: Tensor
    passes: float
    macs: float
    seconds: float


@dataclass(frozen=True)
class Case:
    """A run with the name that it has in the comparison."""

    name: str
    folder: Path
    run: Run


@dataclass(frozen=True)
class Kept:
    """A row and its first images, (SHOWN, C, H, W) uint8."""

    result: Result
    images: Tensor


class Rows:
    """Makes rows, and keeps each in a file as soon as it is made.

    A row's file is named after everything that its figures depend on, so that it serves later comparisons too and none
    that it does not fit.
    """

    def __init__(self, folder: Path, judge: Evaluator, data_sha256: str, settings: Settings) -> None:
        self.folder, self.judge, self.settings = folder, judge, settings
        folder.mkdir(parents=True, exist_ok=True)
        self.fixed: dict[str, Any] = {"version": _VERSION, "data": data_sha256, "extractor": judge.extractor.identity}
        if len(set(judge.class_sizes)) > 1:
            self.fixed["class_sizes"] = judge.class_sizes

    def chosen(self, case: Case, budget: int, sampler: str) -> tuple[Result, Tensor]:
        """The row of a run with the plan that is best on validation images, and its first images."""
        s = self.settings
        trials = self._trials(case, budget, sampler)
        kept = self.of_plan(case, trials[0].plan, s.images_at(budget))
        row = replace(kept.result, candidates=len(trials), choosing_distance=trials[0].distance)
        return row, kept.images

    def _trials(self, case: Case, budget: int, sampler: str) -> list[Trial]:
        s = self.settings
        asked = {
            "choices": asdict(s.choices),
            "budget": budget,
            "sampler": sampler,
            "guidance": s.guidance,
            "images": s.choosing_images,
            "seed": s.seed + 1,
        }
        path = self._path(case, f"{budget}-{sampler}-choice", asked)
        if (known := _read_json(path)) is not None and None not in (trial["distance"] for trial in known["trials"]):
            return [Trial(Plan(**trial["plan"]), trial["distance"]) for trial in known["trials"]]

        labels = self._labels(case.run, s.choosing_images)

        def distance(plan: Plan) -> float:
            drawn = draw(case.run, plan, labels, seed=s.seed + 1, batch_size=s.batch_size)
            return self.judge.choosing_distance(drawn.images)

        trials = search(case.run, s.choices, budget=budget, sampler=sampler, guidance=s.guidance, distance=distance)
        listed = [asdict(trial) for trial in trials]
        write_atomically(path, json.dumps({"run": case.name, "asked": asked, "trials": listed}, indent=1))
        return trials

    def of_plan(self, case: Case, plan: Plan, num_images: int) -> Kept:
        """The row of a run with this plan."""
        asked = {"plan": asdict(plan), "images": num_images, "seed": self.settings.seed}
        path = self._path(case, f"{plan.budget}-{plan.sampler}-{plan.iterations}", asked)
        picture = path.with_suffix(".png")
        if (known := _read_json(path)) is not None and picture.exists():
            here = {"model": case.name, "run": str(case.folder), "floor_images": self.judge.floor_images(num_images)}
            return Kept(Result(**{**known["result"], **here}), _read_strip(picture, case.run.image_shape[0]))
        labels = self._labels(case.run, num_images)
        drawn = draw(case.run, plan, labels, seed=self.settings.seed, batch_size=self.settings.batch_size)
        result = self._result(case, plan, drawn)
        save_png(tile(drawn.images[:SHOWN], SHOWN, gap=0), picture)
        write_atomically(path, json.dumps({"asked": asked, "result": asdict(result)}, indent=1))
        return Kept(result, drawn.images[:SHOWN])

    def _result(self, case: Case, plan: Plan, drawn: Drawn) -> Result:
        seed = self.settings.seed
        cost = case.run.model.cost()
        budget = Budget.of(plan.budget, cost)
        measures = self.judge.measure(drawn.images, seed=seed)
        floor, kernel_floor = self.judge.floor(len(drawn.images))
        return Result(
            model=case.name,
            run=str(case.folder),
            parameters=cost.total_parameters,
            sampler=plan.sampler,
            grid=plan.grid,
            budget=plan.budget,
            iterations=plan.iterations or budget.allowed.start,
            steps=budget.steps(plan.iterations or None),
            allocation=plan.allocation,
            reuse=plan.reuse,
            guidance=plan.guidance,
            candidates=1,
            passes=drawn.passes,
            macs=drawn.macs,
            seconds=drawn.seconds,
            distance=measures.distance.value,
            distance_low=measures.distance.low,
            distance_high=measures.distance.high,
            distance_floor=floor,
            floor_images=self.judge.floor_images(len(drawn.images)),
            kid=measures.kernel.value,
            kid_low=measures.kernel.low,
            kid_high=measures.kernel.high,
            kid_floor=kernel_floor,
            precision=measures.manifold.precision,
            recall=measures.manifold.recall,
            novelty=measures.novelty,
            images=len(drawn.images),
            seed=seed,
        )

    def _labels(self, run: Run, count: int) -> list[int]:
        classes = run.model.shape.num_classes
        # An imported model may have been trained on other classes than it is judged by.
        return (
            self.judge.labels(count)
            if classes == len(self.judge.class_sizes)
            else balanced_labels(range(count), classes)
        )

    def _path(self, case: Case, name: str, asked: dict[str, Any]) -> Path:
        made_by = {"weights": case.run.weights}
        if case.run.autoencoder.sha256:
            made_by["autoencoder"] = case.run.autoencoder.sha256
        text = json.dumps({**self.fixed, **made_by, **asked}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        slug = re.sub(r"[^\w.-]+", "-", f"{case.run.recipe.name}-{name}")
        return self.folder / f"{slug}-{digest}.json"


def draw(run: Run, plan: Plan, labels: Sequence[int], *, seed: int, batch_size: int) -> Drawn:
    """Images 0, 1, ... of a run under a plan, one for each label."""
    sampler, num_images = run.sampler(plan, seed=seed), len(labels)
    made, passes, macs, seconds = [], 0.0, 0.0, 0.0
    for start in range(0, num_images, batch_size):
        indices = range(start, min(start + batch_size, num_images))
        batch = sampler(indices, labels[indices.start : indices.stop])
        made.append(batch.pixels)
        passes, macs = passes + batch.passes * len(indices), macs + batch.macs * len(indices)
        seconds += batch.seconds
    return Drawn(torch.cat(made), passes / num_images, macs / num_images, seconds / num_images)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # a damaged row is made again
        return None


def _read_strip(path: Path, channels: int) -> Tensor:
    with Image.open(path) as image:
        array = np.asarray(image.convert("RGB"))  # (H, SHOWN * W, 3)
    height = array.shape[0]
    images = array.reshape(height, SHOWN, -1, 3).transpose(1, 3, 0, 2)  # (SHOWN, 3, H, W)
    return torch.from_numpy(images[:, :channels].copy())  # (SHOWN, C, H, W)
