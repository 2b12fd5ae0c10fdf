"""Compare runs at the same budgets: each with its best plan, from the same noise and labels."""

from __future__ import annotations

import functools
import itertools
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from fpdm import __version__
from fpdm.compare.answer import answer
from fpdm.compare.diagnostics import diagnose
from fpdm.compare.image_sheet import answer_sheet, read_image_sheet, report_sheets, write_image_sheet
from fpdm.compare.inputs import NamedRun, check_images, find_images, images_of, load_runs
from fpdm.compare.report import FILE as REPORT
from fpdm.compare.report import write_report
from fpdm.compare.results import FILE, Comparison, ImageRow, Result, StageResult, Trained, read_comparison
from fpdm.compare.results_cache import ResultsCache, draw, labels_of
from fpdm.compare.search import possible_iterations
from fpdm.compare.settings import COMPARISON, SHOWN, Settings
from fpdm.compare.stages import FIRST_ANSWER, Stage, first_look, full_protocol, next_stage
from fpdm.data.dataset import Examples
from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset, load_dataset, load_images
from fpdm.evaluation.evaluator import Evaluator, check_measurable, with_labels
from fpdm.files import write_atomically
from fpdm.progress_bar import ProgressBar, clock, progress_bar
from fpdm.runs.run import Run
from fpdm.sampling.plan import Plan, macs_per_image


def compare(
    folders: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    data: str = "",
    data_root: Path | None = None,
    latents: Sequence[Path] = (),
    autoencoder: str = "",
    command: str = "",
    overwrite: bool = False,
    full: bool = True,
    minutes: float = 0.0,
) -> Comparison:
    """Sample every run at every budget with its best plan, measure the images, and write the report.

    Plans are chosen on validation images. Results are measured on the test split, with other noise. Each result is kept
    in `out/rows` as soon as it is computed, and an interrupted comparison continues from there.

    Args:
        folders: Folders of runs that were trained on the same images, or on latents of them.
        out: Folder for `compare.json`, `images.png`, `report.html` and the figures.
        settings: How to compare the runs.
        data: Path of the images, if they are no longer where the runs recorded them.
        data_root: Folder with the data set's own files.
        latents: Paths of latent caches that are no longer where the runs recorded them.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        command: The command line, for the report.
        overwrite: Replace the report of another comparison; what is measured already and still fits is used.
        full: Do the full protocol of the settings at once, instead of in stages: a first answer soon, with few images
            and the plans that are stored with the models, and better ones after it.
        minutes: Minutes after which stages end, the full protocol included; 0 for no limit.

    Raises:
        ValueError: The runs were trained on different data, the images are not those that a run was trained on, a
            budget is below one step of a model, or the folder has other files or another comparison.
    """
    started = time.monotonic()
    runs = load_runs(folders, autoencoder, latents)
    for one in runs:  # raises before anything long starts
        for budget in settings.budgets:
            for sampler in settings.samplers:
                settings.choices.check(one.run, budget, sampler, settings.guidance)
    conditional = any(one.run.recipe.data.conditional for one in runs)
    config = replace(find_images([images_of(one.run) for one in runs], data), conditional=conditional)
    dataset = load_images(config, root=data_root)
    for one in runs:
        check_images(one, config, dataset)
    check_measurable(dataset.splits)
    COMPARISON.check(out, {"image folder": config.folder})
    _check_fits([one.run for one in runs], settings)
    if not overwrite:
        _check_other(out, runs, settings)
    with COMPARISON.hold(out):
        work = _Work(runs, dataset, Evaluator(dataset.splits), settings, out, config.source, command, started)
        if full:
            return work.measure(full_protocol(settings))
        return work.measure_in_stages(60.0 * minutes)


class _TimeIsUpError(Exception):
    """A stage would end later than it may."""


class _Work:
    """A comparison that is being made."""

    def __init__(
        self,
        runs: Sequence[NamedRun],
        dataset: Dataset[ImageSet],
        evaluator: Evaluator,
        settings: Settings,
        out: Path,
        source: str,
        command: str,
        started: float,
    ) -> None:
        self.runs, self.dataset, self.evaluator, self.settings = runs, dataset, evaluator, settings
        self.out, self.source, self.command, self.started = out, source, command, started
        self.stages: list[StageResult] = []
        self.last: Comparison | None = None
        self.deadline = math.inf

    @functools.cached_property
    def models(self) -> tuple[Trained, ...]:
        """The models and their training."""
        dataset = self.dataset
        return tuple(diagnose(one.name, one.folder, one.run, _held_out(one.run, dataset)) for one in self.runs)

    def measure_in_stages(self, limit: float) -> Comparison:
        """Measure ever more; each stage writes the page again.

        Args:
            limit: Seconds after which it ends; 0 for no limit.
        """
        self.models  # noqa: B018  # which takes time too
        seconds = self._time_images()
        rows = sum(seconds[one.name, budget] for one in self.runs for budget in self.settings.budgets)
        passed = time.monotonic() - self.started
        stage: Stage | None = first_look(self.settings, rows, _at_most(FIRST_ANSWER, limit and (limit - passed) / 3))
        while stage is not None:
            began = time.monotonic()
            try:
                self.last = self.measure(stage)
            except _TimeIsUpError:
                print(f"fpdm: the time is up: {stage.name} was not finished", file=sys.stderr)
                break
            now = time.monotonic()
            if stage.is_full:
                break
            seconds = self._known_seconds(seconds)
            left = limit - (now - self.started) if limit else None
            if limit:
                self.deadline = self.started + limit
            done, cost = stage, functools.partial(self._cost, seconds=seconds)
            stage = next_stage(self.settings, done, cost, now - began, left)
            self._tell(stage, cost)
        assert self.last is not None
        return self.last

    def measure(self, stage: Stage) -> Comparison:
        """Do one stage, and write the page.

        Raises:
            _TimeIsUpError: The deadline has passed.
        """
        settings = stage.settings
        chosen = [
            (one, budget, sampler) for sampler in settings.samplers for budget in settings.budgets for one in self.runs
        ]
        swept = [
            (one, budget, iterations)
            for one in self.runs
            for budget in settings.budgets
            for iterations in possible_iterations(one.run, budget, settings.sweep)
        ]
        results: list[Result] = []
        sweep: list[Result] = []
        samples: dict[tuple[str, int, str], Tensor] = {}
        sizes = [self._macs(stage, one, budget) for one, budget, _ in chosen]
        sizes += [
            settings.sweep_images * macs_per_image(Plan(budget, i), one.run.model.cost()) for one, budget, i in swept
        ]
        with progress_bar(f"comparing, {stage.name}", sum(sizes), "MACs", leave=True) as bar:
            cache = self._cache(settings, bar)
            for (one, budget, sampler), end in zip(chosen, itertools.accumulate(sizes), strict=False):
                bar.note = f"{one.name}, {budget} passes, {sampler}"
                if stage.share:
                    found = cache.with_best_plan(one, budget, sampler)
                else:
                    plan = self._stored_plan(one, budget, sampler=sampler)
                    found = cache.with_plan(one, plan, settings.images_at(budget))
                results.append(found.result)
                samples[one.name, budget, sampler] = found.images
                bar.set(end)  # what was there already, or was not tried
            plans = {(one.model, one.budget): one for one in results if one.sampler == settings.samplers[0]}
            for one, budget, iterations in swept:
                best = plans[one.name, budget]
                choices = {"sampler": best.sampler, "grid": best.grid, "reuse": best.reuse}
                plan = Plan(budget, iterations, guidance=settings.guidance, **choices)
                bar.note = f"{one.name}, {budget} passes, {iterations} iterations"
                sweep.append(cache.with_plan(one, plan, settings.sweep_images).result)
        return self._write(stage, results, sweep, samples)

    def _cache(self, settings: Settings, bar: ProgressBar | None = None) -> ResultsCache:
        @contextmanager
        def drawing(run: Run, plan: Plan, images: int) -> Iterator[None]:
            if time.monotonic() > self.deadline:
                raise _TimeIsUpError
            with bar.step(images * macs_per_image(plan, run.model.cost())) if bar else nullcontext():
                yield

        return ResultsCache(self.out / "rows", self.evaluator, self.dataset.sha256, settings, drawing=drawing)

    def _stored_plan(self, one: NamedRun, budget: int, **given: str) -> Plan:
        """Return the plan that is stored with a model, but without self-guidance unless the settings have it."""
        off = {} if any(self.settings.self_guidance) else {"self_guidance": 0.0}
        return one.run.complete({"budget": budget, "guidance": self.settings.guidance, **off, **given}).plan

    def _macs(self, stage: Stage, one: NamedRun, budget: int) -> float:
        """Estimate the multiply-accumulates of a row."""
        images = stage.settings.images_at(budget)
        if stage.share:
            images += stage.settings.choices.trials * stage.settings.choosing_images
        return images * macs_per_image(Plan(budget), one.run.model.cost())

    def _cost(self, stage: Stage, seconds: Mapping[tuple[str, int], float]) -> float:
        """Estimate the seconds that a stage takes, without what is there already."""
        cache, total = self._cache(stage.settings), 0.0
        for sampler, budget, one in itertools.product(stage.settings.samplers, stage.settings.budgets, self.runs):
            if not cache.is_known(one, budget, sampler):
                macs = self._macs(stage, one, budget)
                total += seconds[one.name, budget] * macs / macs_per_image(Plan(budget), one.run.model.cost())
            if sampler == stage.settings.samplers[0]:
                sweep = possible_iterations(one.run, budget, stage.settings.sweep)
                total += seconds[one.name, budget] * len(sweep) * stage.settings.sweep_images
        return total

    def _time_images(self) -> dict[tuple[str, int], float]:
        """Measure the seconds of an image at the smallest budget, and estimate them at the others."""
        least, found = min(self.settings.budgets), {}
        for one in self.runs:
            plan = self._stored_plan(one, least)
            _, cost = draw(one.run, plan, labels_of(one.run, self.evaluator, SHOWN), seed=0, batch_size=SHOWN)
            each = cost.seconds / cost.images / least
            found |= {(one.name, budget): each * budget for budget in self.settings.budgets}
        return found

    def _known_seconds(self, before: Mapping[tuple[str, int], float]) -> dict[tuple[str, int], float]:
        """Return the seconds of an image of every row, as measured in the last stage."""
        assert self.last is not None
        return {**before, **{(row.model, row.budget): row.seconds for row in self.last.rows}}

    def _write(
        self,
        stage: Stage,
        results: Sequence[Result],
        sweep: Sequence[Result],
        samples: dict[tuple[str, int, str], Tensor],
    ) -> Comparison:
        images = _images(results, samples, self.evaluator)
        test = self.dataset.splits.test
        comparison = Comparison(
            self.command,
            self.source,
            self.evaluator.extractor.name,
            f"the {len(test):,} test images of {test.name}",
            _versions(),
            asdict(self.settings),
            self.models,
            tuple(results),
            tuple(sweep),
            write_image_sheet(self.out, images),
            is_full=stage.is_full,
        )
        if self.stages or not stage.is_full:
            counts = [row.images for row in results]
            plans, seconds = max(row.candidates for row in results), time.monotonic() - self.started
            self.stages.append(
                StageResult(stage.name, (min(counts), max(counts)), plans, round(seconds, 1), answer(comparison))
            )
            comparison = replace(comparison, stages=tuple(self.stages))
        write_atomically(self.out / FILE, comparison.to_json())
        write_report(comparison, report_sheets(comparison, images), self.out, answer_sheet(comparison, images))
        return comparison

    def _tell(self, following: Stage | None, cost: Callable[[Stage], float]) -> None:
        last = self.stages[-1]
        after = f"after {clock(last.seconds)}, {last.name}: {last.answer} {self.out / REPORT}"
        then = f"; next, {following.name}, about {clock(cost(following))}" if following else ""
        print(f"fpdm: {after}{then}", file=sys.stderr)


def _at_most(value: float, limit: float) -> float:
    return min(value, limit) if limit else value


def redraw(folder: Path) -> Comparison:
    """Write the report of a comparison again, from its `compare.json` and image sheet.

    Args:
        folder: A folder made by `compare`.

    Raises:
        ValueError: There is no comparison in the folder, or one of the two files is damaged.
    """
    comparison = read_comparison(folder)
    images = read_image_sheet(folder, comparison.images) if comparison.images else {}
    with COMPARISON.hold(folder):
        write_report(comparison, report_sheets(comparison, images), folder, answer_sheet(comparison, images))
    return comparison


def _check_fits(runs: Sequence[Run], settings: Settings) -> None:
    """Raise if the images of a row of the report do not fit in memory, counted low."""
    rows = {"num-images": max(settings.num_images), "choosing-images": settings.choosing_images}
    rows |= {"sweep-images": settings.sweep_images} if settings.sweep else {}
    for option, images in rows.items():
        runs[0].check_row_fits(images, option)
    for run in runs:
        run.check_fits(min(settings.batch_size, max(rows.values())), settings.guidance)


def _check_other(out: Path, runs: Sequence[NamedRun], settings: Settings) -> None:
    """Raise if the folder has a comparison of other runs or settings; a damaged one counts as none."""
    try:
        before = read_comparison(out)
    except ValueError:
        return
    asked = asdict(settings)
    changed = [name for name, value in before.settings.items() if asked.get(name, value) != _tupled(value)]
    if {(one.model, one.steps) for one in before.models} != {(one.name, one.run.progress.step) for one in runs}:
        changed.insert(0, "runs")
    if changed:
        raise ValueError(
            f"{out} has a comparison with other {' and '.join(changed[:3])}; choose another folder, or replace its "
            "report with --overwrite"
        )


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _held_out(run: Run, dataset: Dataset[ImageSet]) -> Examples:
    """Return images or latents to measure a run's loss on, held out from training if there are any."""
    if not run.recipe.data.is_cache:
        return dataset.splits.validation
    latents = load_dataset(run.recipe.data).splits
    return next(part for part in (latents.validation, latents.test, latents.train) if len(part))


def _images(
    results: Sequence[Result], samples: dict[tuple[str, int, str], Tensor], evaluator: Evaluator
) -> dict[ImageRow, Tensor]:
    """Collect the rows of the image sheet: all samples, real images, and nearest neighbours at the largest budget."""
    images = {ImageRow("samples", *key): shown for key, shown in samples.items()}
    images[ImageRow("real")] = with_labels(evaluator.splits.test, evaluator.labels(SHOWN))
    largest, sampler = max(row.budget for row in results), results[0].sampler
    for model in dict.fromkeys(row.model for row in results):
        nearest = evaluator.nearest_training(samples[model, largest, sampler])
        images[ImageRow("nearest", model, largest, sampler)] = nearest
    return images


def _versions() -> dict[str, str]:
    return {
        "fpdm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "system": sys.platform,
    }
