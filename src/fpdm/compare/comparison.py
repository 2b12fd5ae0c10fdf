"""Compare runs at the same budgets: each with its best plan, from the same noise and labels."""

from __future__ import annotations

import math
import platform
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from fpdm import __version__
from fpdm.compare.diagnostics import diagnose
from fpdm.compare.image_sheet import read_image_sheet, report_sheets, write_image_sheet
from fpdm.compare.report import write_report
from fpdm.compare.results import FILE, Comparison, ImageRow, Result, read_comparison
from fpdm.compare.results_cache import NamedRun, ResultsCache
from fpdm.compare.search import possible_iterations
from fpdm.compare.settings import COMPARISON, SHOWN, Settings
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.data.dataset import Examples
from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset, latents_sha256, load_dataset, load_images, without_classes
from fpdm.data.manifest import read_manifest
from fpdm.data.sources.folder import scan
from fpdm.evaluation.evaluator import Evaluator, check_measurable, with_labels
from fpdm.files import write_atomically
from fpdm.memory import check_memory
from fpdm.progress_bar import progress_bar
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
    latents: Sequence[Path] = (),
    autoencoder: str = "",
    command: str = "",
    overwrite: bool = False,
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

    Raises:
        ValueError: The runs were trained on different data, the images are not those that a run was trained on, a
            budget is below one step of a model, or the folder has other files or another comparison.
    """
    runs = _load_runs(folders, autoencoder, latents)
    for one in runs:  # raises before anything long starts
        for budget in settings.budgets:
            for sampler in settings.samplers:
                settings.choices.check(one.run, budget, sampler, settings.guidance)
    conditional = any(one.run.recipe.data.conditional for one in runs)
    config = replace(_find_images([_images_of(one.run) for one in runs], data), conditional=conditional)
    dataset = load_images(config, root=data_root)
    for one in runs:
        _check_images(one, config, dataset)
    check_measurable(dataset.splits)
    COMPARISON.check(out, {"image folder": config.folder})
    _check_fits([one.run for one in runs], settings)
    if not overwrite:
        _check_other(out, runs, settings)
    with COMPARISON.hold(out):
        evaluator = Evaluator(dataset.splits)
        cache = ResultsCache(out / "rows", evaluator, dataset.sha256, settings)
        chosen = [
            (one, budget, sampler) for sampler in settings.samplers for budget in settings.budgets for one in runs
        ]
        swept = [
            (one, budget, iterations)
            for one in runs
            for budget in settings.budgets
            for iterations in possible_iterations(one.run, budget, settings.sweep)
        ]
        results: list[Result] = []
        sweep: list[Result] = []
        samples: dict[tuple[str, int, str], Tensor] = {}
        total = len(chosen) + len(swept)
        with progress_bar("comparing", total, "results", leave=True) as bar:
            for one, budget, sampler in chosen:
                with bar.step(note=f"{one.name}, {budget} passes, {sampler}"):
                    found = cache.with_best_plan(one, budget, sampler)
                results.append(found.result)
                samples[one.name, budget, sampler] = found.images
            plans = {(one.model, one.budget): one for one in results if one.sampler == settings.samplers[0]}
            for one, budget, iterations in swept:
                best = plans[one.name, budget]
                choices = {"sampler": best.sampler, "grid": best.grid, "reuse": best.reuse}
                plan = Plan(budget, iterations, guidance=settings.guidance, **choices)
                with bar.step(note=f"{one.name}, {budget} passes, {iterations} iterations"):
                    sweep.append(cache.with_plan(one, plan, settings.sweep_images).result)
        images = _images(results, samples, evaluator)
        comparison = Comparison(
            command,
            config.source,
            evaluator.extractor.name,
            f"the {len(dataset.splits.test):,} test images of {dataset.splits.test.name}",
            _versions(),
            asdict(settings),
            tuple(diagnose(one.name, one.folder, one.run, _held_out(one.run, dataset)) for one in runs),
            tuple(results),
            tuple(sweep),
            write_image_sheet(out, images),
        )
        write_atomically(out / FILE, comparison.to_json())
        write_report(comparison, report_sheets(comparison, images), out)
        return comparison


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
        write_report(comparison, report_sheets(comparison, images), folder)
    return comparison


def _check_fits(runs: Sequence[Run], settings: Settings) -> None:
    """Raise if the images of a row of the report do not fit in memory, counted low."""
    rows = {"num-images": max(settings.num_images), "choosing-images": settings.choosing_images}
    rows |= {"sweep-images": settings.sweep_images} if settings.sweep else {}
    for option, images in rows.items():
        check_memory(images * math.prod(runs[0].image_shape), f"a row of {images:,} images", f"fewer --{option}")
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


def _load_runs(folders: Sequence[Path], autoencoder: str, latents: Sequence[Path]) -> list[NamedRun]:
    runs = [_with_latents(load_run(folder, autoencoder=autoencoder), folder, latents) for folder in folders]
    sources = {
        _describe(data, run.recipe.data.is_cache or bool(_data_sha256(run, folder)))
        for folder, run in zip(folders, runs, strict=True)
        if (data := _images_of(run)).source != UNKNOWN
    }
    if len(sources) > 1:
        raise ValueError(f"the runs were trained on different data ({'; '.join(sorted(sources))}); expected the same")
    shapes = {run.image_shape for run in runs}  # loads the autoencoders
    if len(shapes) > 1:
        raise ValueError(f"the runs make images of different shapes ({sorted(shapes)}); expected the same")
    return [NamedRun(*one) for one in zip(_names(folders, runs), folders, runs, strict=True)]


def _names(folders: Sequence[Path], runs: Sequence[Run]) -> list[str]:
    """Name all runs by their recipes if these differ, else by their folders."""
    for names in ([run.recipe.name for run in runs], [folder.absolute().name for folder in folders]):
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _images_of(run: Run) -> DataConfig:
    """Return the images that a run, or its latents, came from."""
    data = run.recipe.data
    if not run.recipe.autoencoder.source:
        return data
    if data.source == UNKNOWN:
        raise ValueError(
            f"{run.recipe.name} was imported, and the latents to measure its loss on are not known; use fpdm evaluate"
        )
    return read_manifest(data.source).data


def _describe(data: DataConfig, known: bool) -> str:
    """Describe images. Where they are does not matter if their content is known, which `_check_images` compares."""
    if not data.is_folder:
        return data.source
    return f"{'a folder' if known else data.source}, {data.channels} x {data.size} x {data.size}"


def _data_sha256(run: Run, folder: Path) -> str:
    """Return the hash of the images or latents that a run was trained on; empty if it is not known."""
    card = None if run.recipe.images else read_data_card(folder)
    return run.recipe.images or (card.sha256 if card is not None else "")


def _with_latents(run: Run, folder: Path, given: Sequence[Path]) -> Run:
    """Return a run with the place where the cache of its latents is now; a run of images is returned as it is."""
    data = run.recipe.data
    if not run.recipe.autoencoder.source or data.source == UNKNOWN:
        return run
    sha256, places = _data_sha256(run, folder), list(dict.fromkeys([data.source, *map(str, given)]))
    damaged = ""
    for one in (replace(data, source=place) for place in places):
        try:
            if one.is_cache and (not sha256 or latents_sha256(one) == sha256):
                return replace(run, recipe=replace(run.recipe, data=one))
        except ValueError as error:
            damaged = f"{error}; "
    what = f" (sha256 {sha256[:12]})" if sha256 else ""
    raise ValueError(
        f"{damaged}the latents that {run.recipe.name} was trained on{what} are not in {' or '.join(places)}; "
        "say where they are with --latents"
    )


def _find_images(known: Sequence[DataConfig], given: str) -> DataConfig:
    """Return the images that runs were trained on, in the given place or else the first where there is anything."""
    config = next((one for one in known if one.source != UNKNOWN), known[0])
    if given:
        return replace(config, source=given)
    places = [one for one in known if one.folder is None or one.folder.exists()]
    if config.source != UNKNOWN and not places:
        where = " or ".join(dict.fromkeys(one.source for one in known if one.source != UNKNOWN))
        raise ValueError(f"the images that the runs were trained on are not in {where}; say where they are with --data")
    return next((one for one in places if one.source != UNKNOWN), config)


def _check_images(one: NamedRun, config: DataConfig, dataset: Dataset[ImageSet]) -> None:
    """Raise if a run was trained on other images; warn if it was trained on those that it is measured against."""
    data = one.run.recipe.data
    if data.is_cache:
        manifest = read_manifest(data.source)
        if not manifest.has_usual_splits:
            warnings.warn(
                f"{one.folder} was trained on the latents of all images of {config.source}, including those that it "
                "is now measured against; prepare them without --holdout to keep some apart",
                RuntimeWarning,
                stacklevel=3,
            )
        if (
            manifest.kind == "folder"
            and dataset.summary is not None
            and scan(dataset.summary.folder).fingerprint() != manifest.listing
        ):
            raise ValueError(
                f"{one.folder} was trained on latents of other images than {dataset.summary.folder} has now; put them "
                "back, or say where they are with --data"
            )
        return
    sha256 = _data_sha256(one.run, one.folder)
    now = dataset if data.conditional == config.conditional else without_classes(dataset)
    if data.source != UNKNOWN and sha256 and now.sha256 != sha256:
        raise ValueError(
            f"{one.folder} was trained on other images than {config.source} has now (sha256 {sha256[:12]}, now "
            f"{now.sha256[:12]}); put them back, or say where they are with --data"
        )


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
