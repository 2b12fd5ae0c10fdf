"""Runs compared at the same budgets: each with its best plan, from the same noise and labels, finished row by row."""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fpdm import __version__
from fpdm.compare.diagnostics import study
from fpdm.compare.report import write_report
from fpdm.compare.results import Comparison
from fpdm.compare.results_cache import Case, Rows
from fpdm.compare.search import possible_iterations
from fpdm.compare.settings import SHOWN, Settings
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.data.dataset import Examples
from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset, load_dataset, load_images
from fpdm.data.manifest import read_manifest
from fpdm.drawing.sheets import Row, Sheet
from fpdm.evaluation.evaluator import Evaluator, check_measurable, with_labels
from fpdm.files import write_atomically
from fpdm.runs.data_card import read_data_card
from fpdm.runs.run import Run, load_run
from fpdm.sampling.plan import Plan


def compare(
    folders: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    data: str = "",
    data_root: Path | None = None,
    autoencoder: str = "",
    command: str = "",
) -> Comparison:
    """Sample every run at every budget with the plan that suits it best, judge, and write the report.

    A plan is chosen on validation images and noise of its own; what is reported is of the test split and other noise.
    Rows are kept in `out/rows` as they are finished, and a comparison that was interrupted goes on from them.

    Args:
        folders: Runs, trained on the same images or on latents of them, which are decoded and judged as images.
        out: Where `compare.json`, `report.html` and the pictures go.
        settings: How to compare.
        data: Where the images are now, if they have moved since.
        data_root: Folder with the data set's own files.
        autoencoder: Where the autoencoder of the latents is now, if it has moved since.
        command: What was called, for the report.

    Raises:
        ValueError: Runs on different data, images that are not those trained on, or a budget that does
            not pay for a step of a model.
    """
    cases = _cases(folders, autoencoder)
    for case in cases:  # raises before anything long begins
        for budget in settings.budgets:
            for sampler in settings.samplers:
                settings.choices.check(case.run, budget, sampler, settings.guidance)
    conditional = any(case.run.recipe.data.conditional for case in cases)
    known = [_images_of(case.run) for case in cases]
    config = next((one for one in known if one.source != UNKNOWN), known[0])
    config = replace(config, source=data or config.source, conditional=conditional)
    dataset = load_images(config, root=data_root)
    for case in cases:
        _check_images(case, config, dataset)
    check_measurable(dataset.splits)
    judge = Evaluator(dataset.splits)
    rows = Rows(out / "rows", judge, dataset.sha256, settings)
    chosen = [(case, budget, sampler) for sampler in settings.samplers for budget in settings.budgets for case in cases]
    swept = [
        (case, budget, iterations)
        for case in cases
        for budget in settings.budgets
        for iterations in possible_iterations(case.run, budget, settings.sweep)
    ]
    found, sweep, strips = [], [], {}
    with tqdm(total=len(chosen) + len(swept), desc="comparing", unit=" rows", disable=None, dynamic_ncols=True) as bar:
        for case, budget, sampler in chosen:
            bar.set_postfix_str(f"{case.name}, {budget} passes, {sampler}")
            result, strips[case.name, budget, sampler] = rows.chosen(case, budget, sampler)
            found.append(result)
            bar.update()
        plans = {(one.model, one.budget): one for one in found if one.sampler == settings.samplers[0]}
        for case, budget, iterations in swept:
            bar.set_postfix_str(f"{case.name}, {budget} passes, {iterations} iterations")
            best = plans[case.name, budget]
            plan = Plan(budget, iterations, best.sampler, best.grid, reuse=best.reuse, guidance=settings.guidance)
            sweep.append(rows.of_plan(case, plan, settings.sweep_images).result)
            bar.update()
    reference = f"the {len(dataset.splits.test)} test images of {dataset.splits.test.name}"
    result = Comparison(
        command,
        config.source,
        judge.extractor.name,
        reference,
        _versions(),
        asdict(settings),
        tuple(study(case.name, case.folder, case.run, _watched(case.run, dataset)) for case in cases),
        tuple(found),
        tuple(sweep),
    )
    write_atomically(out / "compare.json", result.to_json())
    write_report(result, _sheets(result, strips, judge), out)
    return result


def _cases(folders: Sequence[Path], autoencoder: str) -> list[Case]:
    runs = [load_run(folder, autoencoder=autoencoder) for folder in folders]
    sources = {
        f"{data.source}, {data.channels} x {data.size} x {data.size}" if data.is_folder else data.source
        for data in map(_images_of, runs)
        if data.source != UNKNOWN
    }
    if len(sources) > 1:
        raise ValueError(f"the runs were trained on different data ({'; '.join(sorted(sources))}); they do not compare")
    shapes = {run.image_shape for run in runs}  # loads the autoencoders
    if len(shapes) > 1:
        raise ValueError(f"the runs make images of different shapes ({sorted(shapes)}); they do not compare")
    return [Case(*one) for one in zip(_names(folders, runs), folders, runs, strict=True)]


def _names(folders: Sequence[Path], runs: Sequence[Run]) -> list[str]:
    """What to call the runs: all by their recipes if these tell them apart, else by their folders."""
    for names in ([run.recipe.name for run in runs], [folder.absolute().name for folder in folders]):
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _images_of(run: Run) -> DataConfig:
    """The images that a run was trained on, or on the latents of."""
    data = run.recipe.data
    if not run.recipe.autoencoder.source:
        return data
    if data.source == UNKNOWN:
        raise ValueError(
            f"{run.recipe.name} was imported, and the latents to measure its loss on are not known; judge it by fpdm "
            "evaluate"
        )
    if not data.is_cache:
        raise ValueError(
            f"the cache of latents {data.source} that {run.recipe.name} was trained on is gone; put it back"
        )
    return read_manifest(data.source).data


def _check_images(case: Case, config: DataConfig, dataset: Dataset[ImageSet]) -> None:
    """Raise if a run was trained on others than these images; warn if it was on those that it is judged by."""
    data, record = case.run.recipe.data, read_data_card(case.folder)
    if data.is_cache:
        if read_manifest(data.source).kind != "named":
            warnings.warn(
                f"{case.folder} was trained on the latents of all images of {config.source}, those included that it is "
                "now judged by",
                RuntimeWarning,
                stacklevel=3,
            )
    elif record is not None and data.conditional == config.conditional and record.sha256 != dataset.sha256:
        raise ValueError(
            f"{case.folder} was trained on other images than {config.source} has now ({record.to_text()}, then); "
            "put them back, or say where they are with --data"
        )


def _watched(run: Run, dataset: Dataset[ImageSet]) -> Examples:
    """What a run's loss is measured on: images, or latents, that it was not trained on if some were held out."""
    if not run.recipe.data.is_cache:
        return dataset.splits.validation
    latents = load_dataset(run.recipe.data).splits
    return next(part for part in (latents.validation, latents.test, latents.train) if len(part))


def _sheets(result: Comparison, strips: dict[tuple[str, int, str], Tensor], judge: Evaluator) -> list[Sheet]:
    """For each budget the models' first images beneath one another; at the largest, the nearest training images too."""
    sampler = result.rows[0].sampler
    sheets = []
    budgets = sorted({row.budget for row in result.rows})
    for budget in budgets:
        rows = [row for row in result.rows if (row.budget, row.sampler) == (budget, sampler)]
        pictures = [Row(f"{r.model}\n{r.steps} x {r.iterations}", strips[r.model, budget, sampler]) for r in rows]
        pictures.append(Row("real\n(test images)", with_labels(judge.splits.test, judge.labels(SHOWN))))
        sheets.append(
            Sheet(f"{budget} block passes, as steps x iterations: the same noise and class in every column", pictures)
        )
    pairs = []
    for model in dict.fromkeys(row.model for row in result.rows):
        images = strips[model, budgets[-1], sampler]
        pairs += [Row(model, images), Row("nearest\ntraining images", judge.nearest_training(images))]
    sheets.append(Sheet(f"nearest training images, in features, to those of {budgets[-1]} block passes", pairs))
    return sheets


def _versions() -> dict[str, str]:
    return {
        "fpdm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "system": sys.platform,
    }
