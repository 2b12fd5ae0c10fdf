"""The cache of a comparison's results: each is computed once, kept in a file of its own, and read from it later."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fpdm.compare.inputs import NamedRun
from fpdm.compare.results import Result
from fpdm.compare.search import Trial, search
from fpdm.compare.settings import SHOWN, Settings
from fpdm.configuration import from_values
from fpdm.data.labels import balanced_labels
from fpdm.drawing.images import images_from_png, images_to_png
from fpdm.evaluation.evaluator import Evaluator
from fpdm.files import read_json, write_json
from fpdm.runs.run import Run
from fpdm.sampling.images import SamplingCost, draw_in_order
from fpdm.sampling.plan import Plan
from fpdm.sampling.self_guidance import WeakAnswers, affordable_steps
from fpdm.sampling.timesteps import grid

TIMINGS = 3  # batches of a result at least, as its seconds are those of the fastest
_VERSION = 1  # raise it when the meaning of results changes, so that older ones are not used
_FIELDS = {one.name for one in fields(Result)}


@dataclass(frozen=True)
class CachedResult:
    """A result and its first images, (SHOWN, C, H, W) uint8."""

    result: Result
    images: Tensor


class ResultsCache:
    """Computes results and keeps each in a file as soon as it is done.

    A file is named after a hash of everything that its result depends on, so it also serves later comparisons, and none
    that it does not fit.

    Args:
        folder: The folder of the files; created if needed.
        evaluator: Measures the images.
        data_sha256: Hash of the images that results are measured against.
        settings: How the runs are compared.
        drawing: Called with the run, the plan and the number of images, makes the context in which they are drawn.
    """

    def __init__(
        self,
        folder: Path,
        evaluator: Evaluator,
        data_sha256: str,
        settings: Settings,
        *,
        drawing: Callable[[Run, Plan, int], AbstractContextManager[None]] = lambda *_: contextlib.nullcontext(),
    ) -> None:
        self.folder, self.evaluator, self.settings, self.drawing = folder, evaluator, settings, drawing
        folder.mkdir(parents=True, exist_ok=True)
        self.fixed = measured_by(evaluator, data_sha256)

    def with_best_plan(self, run: NamedRun, budget: int, sampler: str) -> CachedResult:
        """Return the result of a run with the plan that is best on the validation images."""
        trials = self._trials(run, budget, sampler)
        found = self.with_plan(run, trials[0].plan, self.settings.images_at(budget))
        result = replace(found.result, candidates=len(trials), choosing_distance=trials[0].distance)
        return CachedResult(result, found.images)

    def is_known(self, run: NamedRun, budget: int, sampler: str) -> bool:
        """Whether `with_best_plan` draws nothing."""
        known = _read_json(self._path(run, f"{budget}-{sampler}-choice", self._asked(budget, sampler)))
        try:
            plan = from_values(Plan, known["trials"][0]["plan"], "plan") if known else None
        except (KeyError, IndexError, TypeError, ValueError):
            return False
        return plan is not None and self._result_path(run, plan, self.settings.images_at(budget)).exists()

    def _asked(self, budget: int, sampler: str) -> dict[str, Any]:
        s = self.settings
        return {
            "choices": s.choices.values(),
            "budget": budget,
            "sampler": sampler,
            "guidance": s.guidance,
            "images": s.choosing_images,
            "seed": s.seed + 1,
        }

    def _result_path(self, run: NamedRun, plan: Plan, num_images: int) -> Path:
        asked = {"plan": plan.values(), "images": num_images, "seed": self.settings.seed}
        return self._path(run, f"{plan.budget}-{plan.sampler}-{plan.iterations}", asked)

    def _trials(self, run: NamedRun, budget: int, sampler: str) -> list[Trial]:
        s, asked = self.settings, self._asked(budget, sampler)
        path = self._path(run, f"{budget}-{sampler}-choice", asked)
        if (known := _read_json(path)) is not None and None not in (trial["distance"] for trial in known["trials"]):
            return [Trial(from_values(Plan, trial["plan"], "plan"), trial["distance"]) for trial in known["trials"]]

        labels = labels_of(run.run, self.evaluator, s.choosing_images)

        def distance(plan: Plan) -> float:
            with self.drawing(run.run, plan, s.choosing_images):
                images, _ = draw(run.run, plan, labels, seed=s.seed + 1, batch_size=s.batch_size)
            return self.evaluator.choosing_distance(images)

        trials = search(run.run, s.choices, budget=budget, sampler=sampler, guidance=s.guidance, distance=distance)
        listed = [{"plan": trial.plan.values(), "distance": trial.distance} for trial in trials]
        write_json(path, {"run": run.name, "asked": asked, "trials": listed})
        return trials

    def with_plan(self, run: NamedRun, plan: Plan, num_images: int) -> CachedResult:
        """Return the result of a run with this plan."""
        asked = {"plan": plan.values(), "images": num_images, "seed": self.settings.seed}
        path = self._result_path(run, plan, num_images)
        if (known := _read_json(path)) is not None:
            shown = _read_images(path, known, run.run.image_shape[0])
            if shown is not None:
                floor_images = self.evaluator.floor_images(num_images)
                here = {"model": run.name, "run": str(run.folder), "floor_images": floor_images}
                here["self_guidance_range"] = plan.self_guidance_range  # a list in JSON
                return CachedResult(Result(**{**known["result"], **here}), shown)
        labels = labels_of(run.run, self.evaluator, num_images)
        batch_size = min(self.settings.batch_size, -(-num_images // TIMINGS))
        with self.drawing(run.run, plan, num_images):
            images, cost = draw(run.run, plan, labels, seed=self.settings.seed, batch_size=batch_size)
        result, shown = self._result(run, plan, images, cost), images[:SHOWN]
        picture = base64.b64encode(images_to_png(shown, SHOWN)).decode()
        write_json(path, {"asked": asked, "result": asdict(result), "images": picture})
        return CachedResult(result, shown)

    def _result(self, run: NamedRun, plan: Plan, images: Tensor, cost: SamplingCost) -> Result:
        model = run.run.model.cost()
        weak = WeakAnswers.of(plan, model)
        timesteps = functools.partial(grid, run.run.recipe.schedule, name=plan.grid)
        n, seed = len(images), self.settings.seed
        values = {**self.evaluator.measure(images, seed=seed), **self.evaluator.floor(n)}
        return Result(
            model=run.name,
            run=str(run.folder),
            parameters=model.total_parameters,
            sampler=plan.sampler,
            grid=plan.grid,
            budget=plan.budget,
            iterations=plan.iterations or model.middle.iterations.start,
            steps=affordable_steps(plan, model, timesteps),
            allocation=plan.allocation,
            reuse=plan.reuse,
            guidance=plan.guidance,
            candidates=1,
            passes=cost.passes / n,
            macs=cost.macs / n,
            seconds=cost.seconds_per_image,
            batches=len(cost.batches),
            self_guidance=plan.self_guidance,
            weak_depth=weak.depth if weak else None,
            self_guidance_range=plan.self_guidance_range,
            floor_images=self.evaluator.floor_images(n),
            images=n,
            seed=seed,
            measures={name: value for name, value in values.items() if name not in _FIELDS},
            **{name: value for name, value in values.items() if name in _FIELDS},  # type: ignore[arg-type]
        )

    def _path(self, run: NamedRun, name: str, asked: dict[str, Any]) -> Path:
        return self.folder / f"{name_of(run.run, name, {**self.fixed, **asked})}.json"


def measured_by(evaluator: Evaluator, data_sha256: str) -> dict[str, Any]:
    """Return what every result depends on besides the run and its plan."""
    fixed = {"version": _VERSION, "data": data_sha256, "extractor": evaluator.extractor.identity}
    return {**fixed, **({"class_sizes": evaluator.class_sizes} if len(set(evaluator.class_sizes)) > 1 else {})}


def name_of(run: Run, name: str, asked: dict[str, Any]) -> str:
    """Return the name of the file of a result, which has a hash of everything that the result depends on."""
    made_by = {"weights": run.weights}
    if run.autoencoder.sha256:
        made_by["autoencoder"] = run.autoencoder.sha256
    text = json.dumps({**made_by, **asked}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    slug = re.sub(r"[^\w.-]+", "-", f"{run.recipe.name}-{name}")
    return f"{slug}-{digest}"


def labels_of(run: Run, evaluator: Evaluator, count: int) -> list[int]:
    """Return the labels of the first `count` images: in the proportions of the test split, if the classes are its."""
    classes = run.model.shape.num_classes
    # An imported model may have been trained on other classes than those of the images.
    if classes == len(evaluator.class_sizes):
        return evaluator.labels(count)
    return balanced_labels(range(count), classes)


def draw(
    run: Run, plan: Plan, labels: Sequence[int], *, seed: int, batch_size: int, first: int = 0
) -> tuple[Tensor, SamplingCost]:
    """Draw the images `first`, `first` + 1, ... of a run, one for each label: (N, C, H, W) uint8, and their cost."""
    indices = range(first, first + len(labels))
    return draw_in_order(run.sampler(plan, seed=seed), indices, labels, batch_size=batch_size)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (FileNotFoundError, ValueError):  # a damaged file is written again
        return None


def _read_images(path: Path, known: dict[str, Any], channels: int) -> Tensor | None:
    """The first images of a result, (SHOWN, C, H, W); None if they are lost. Earlier versions kept a PNG beside it."""
    try:
        data = base64.b64decode(known["images"]) if "images" in known else path.with_suffix(".png").read_bytes()
        return images_from_png(data, SHOWN)[:, :channels]
    except (FileNotFoundError, ValueError):
        return None
