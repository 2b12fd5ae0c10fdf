"""Search the best plan of a model for a budget, and write it beside the model as the default for that budget."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fpdm.compare.inputs import NamedRun, check_images, find_images, images_of, load_runs
from fpdm.configuration import Record
from fpdm.data.config import DataConfig
from fpdm.data.loading import load_images
from fpdm.drawing.numbers import duration, fixed, short
from fpdm.drawing.plots import render
from fpdm.evaluation.evaluator import Evaluator, check_measurable
from fpdm.files import check_writable, write_json
from fpdm.progress_bar import progress_bar
from fpdm.runs.layout import SAMPLING, SHIPPED
from fpdm.runs.pretrained import is_run, load_model
from fpdm.runs.sampling_file import write_sampling
from fpdm.runs.training_images import training_images
from fpdm.sampling.defaults import SamplingDefaults, TunedPlan
from fpdm.sampling.plan import Plan
from fpdm.tune.halving import Round, halve, most_images
from fpdm.tune.images import PlanImages
from fpdm.tune.picture import search_plot
from fpdm.tune.settings import TUNING, TuneSettings
from fpdm.tune.space import Space


@dataclass(frozen=True)
class BudgetSearch:
    """The search for one budget.

    Attributes:
        untuned: The plan of the model without tuning.
        untuned_distance: Kernel distance of its images to the validation images.
        found: The plan that was found.
        found_distance: Kernel distance of its images, by which it was chosen.
        plans: Number of plans tried.
        images: Number of images drawn, also by earlier calls.
        passes: Block passes spent on them.
        seconds: Seconds spent on them.
        rounds: What was tried on how many images.
        picture: Name of the picture of the search.
    """

    untuned: Plan
    untuned_distance: float
    found: Plan
    found_distance: float
    plans: int
    images: int
    passes: float
    seconds: float
    rounds: tuple[Round, ...]
    picture: str

    def to_text(self) -> str:
        """Describe what was found and what it cost."""
        last = self.rounds[-1].images
        better = f"kernel distance {_shown(self.found_distance)}"
        if self.found != self.untuned:
            better += f", without tuning {_shown(self.untuned_distance)} ({self.untuned.in_words()})"
        return (
            f"{self.found.budget:,} block passes: {self.found.in_words()}\n"
            f"  {better}; {last:,} images each, on which it was chosen\n"
            f"  {self.plans} plans tried with {self.images:,} images, {_count(self.passes)} block passes, "
            f"{_seconds(self.seconds)}"
        )


@dataclass(frozen=True)
class Tuned(Record):
    """The result of `tune`, as in `tune.json`.

    Attributes:
        run: The model's folder.
        out: Folder of the searches.
        command: The command line.
        data: Name or folder of the images.
        features: Features that distances are measured in.
        validation_images: Number of images that plans are judged against.
        weights: SHA-256 of the model's weights.
        settings: How the searches were made.
        budgets: The searches.
    """

    run: Path
    out: Path
    command: str
    data: str
    features: str
    validation_images: int
    weights: str
    settings: TuneSettings
    budgets: tuple[BudgetSearch, ...]

    def to_text(self) -> str:
        """Return what was found, where it is, and who uses it."""
        pictures = " ".join(str(self.out / one.picture) for one in self.budgets)
        return "\n".join(
            [
                *(one.to_text() for one in self.budgets),
                f"pictures of the search: {pictures}",
                f"{self.run / SAMPLING} has what was found: the default of fpdm sample, evaluate and FPDMPipeline at "
                f"{'this budget' if len(self.budgets) == 1 else 'these budgets'}, and of what they interpolate between "
                "tuned budgets",
            ]
        )


def tune(
    folder: Path,
    settings: TuneSettings,
    out: Path | None = None,
    *,
    data: str = "",
    data_root: Path | None = None,
    latents: Sequence[Path] = (),
    autoencoder: str = "",
    command: str = "",
) -> Tuned:
    """Search the best plan of a model for each budget, by successive halving on the kernel distance.

    Images are compared with the validation images. All features are kept in `out`, so that an interrupted search goes
    on, and a repeated one draws nothing.

    Args:
        folder: Folder of the model: of a run, or in the hub's layout.
        settings: How to search.
        out: Folder of the searches; None for `tuning` in the model's folder.
        data: Path or name of the images, if they are not known or no longer where the run recorded them.
        data_root: Folder with the data set's own files.
        latents: Paths of a run's latent cache, if it is no longer where the run recorded it.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        command: The command line, for the record.

    Raises:
        ValueError: The model cannot be found or its folder not be written to, its images are not known, there are too
            few of them, or a budget pays for none of the plans.
    """
    out = out or folder / "tuning"
    check_own(folder)
    run, config = _load(folder, data, autoencoder, latents)
    spaces = {
        budget: Space(
            run.run,
            settings.choices,
            settings.samplers,
            budget=budget,
            guidance=settings.guidance,
            seed=settings.seed,
        )
        for budget in sorted(set(settings.budgets))
    }
    run.run.check_row_fits(settings.num_images, "num-images")
    run.run.check_fits(min(settings.batch_size, settings.num_images), settings.guidance)
    dataset = load_images(config, root=data_root)
    if is_run(folder) and not data:
        check_images(run, config, dataset)
    check_measurable(dataset.splits)
    if dataset.splits.test.shape != run.run.image_shape:
        raise ValueError(
            f"{config.source} has images of {dataset.splits.test.shape}, but {folder} makes {run.run.image_shape}; say "
            "where the images are that it was trained on with --data"
        )
    TUNING.check(out, {"image folder": config.folder})
    with TUNING.hold(out):
        evaluator = Evaluator(dataset.splits)
        searches = []
        for budget, space in spaces.items():
            searches.append(_search(run, space, settings, budget, evaluator, dataset.sha256, out))
            found = searches[-1]
            tuned = TunedPlan(found.found, found.found_distance, found.rounds[-1].images, run.run.weights)
            write_sampling(folder, load_model(folder, autoencoder=autoencoder).sampling.with_tuned(tuned))
        result = Tuned(
            run=folder,
            out=out,
            command=command,
            data=config.source,
            features=evaluator.extractor.name,
            validation_images=len(dataset.splits.validation),
            weights=run.run.weights,
            settings=settings,
            budgets=tuple(searches),
        )
        write_json(out / TUNING.record, result.to_json())
        return result


def check_own(folder: Path) -> None:
    """Check that a model is in a folder of the user's, which a plan can be written beside.

    Raises:
        ValueError: It is not.
    """
    shipped = {path.name for path in SHIPPED.glob("*") if path.is_dir()}
    if not folder.is_dir():
        known = str(folder) in shipped
        raise ValueError(
            f"{folder} {'comes with the package' if known else 'is no folder'}; expected a folder of your own, "
            f"where the plan is kept beside the model{_SAVE.format(name=folder) if known else ''}"
        )
    if folder.resolve().is_relative_to(SHIPPED.resolve()):
        raise ValueError(
            f"{folder} lies in the package; expected a folder of your own" + _SAVE.format(name=folder.name)
        )
    check_writable(folder, [SAMPLING])


_SAVE = ": FPDMPipeline.from_pretrained('{name}').save_pretrained('{name}')"


def _load(folder: Path, data: str, autoencoder: str, latents: Sequence[Path]) -> tuple[NamedRun, DataConfig]:
    """Load a model, and find out which images it is measured against."""
    if is_run(folder) and (latents or not data):
        (run,) = load_runs([folder], autoencoder, latents)
        return run, find_images([images_of(run.run)], data)
    loaded = load_model(folder, autoencoder=autoencoder)
    if not data:
        raise ValueError(f"the images that {folder} was trained on are not known; say which with --data")
    return NamedRun(loaded.recipe.name, folder, loaded), training_images(loaded, data)


def _search(
    run: NamedRun,
    space: Space,
    settings: TuneSettings,
    budget: int,
    evaluator: Evaluator,
    data_sha256: str,
    out: Path,
) -> BudgetSearch:
    given = {"budget": budget, "guidance": settings.guidance}
    steps = run.run.recipe.schedule.num_timesteps
    untuned = SamplingDefaults(run.run.sampling.plan).complete(given, run.run.model.cost(), steps).plan
    total = most_images(settings, len(space.plans()), len(space.guided(untuned)) - 1)
    with progress_bar(f"tuning for {budget:,} block passes", total, "images", leave=True) as bar:
        images = PlanImages(
            out / "rows",
            run,
            evaluator,
            data_sha256,
            seed=settings.seed + 2,  # neither that of a comparison nor that by which it chooses
            batch_size=settings.batch_size,
            step=bar.step,
        )
        images.distance(untuned, settings.first_images)
        each = images.cost(untuned)
        _announce(budget, total, total * each.seconds / each.images)
        rounds = halve(space, untuned, settings, images.distance)
    found = rounds[-1].trials[0]
    distances = {trial.plan: trial.distance for trial in rounds[-1].trials}
    key = space.key(untuned)
    untuned_distance = next(distance for plan, distance in distances.items() if space.key(plan) == key)
    tried = list(dict.fromkeys(trial.plan for one in rounds for trial in one.trials))
    costs = [images.cost(plan) for plan in tried]
    picture = f"search-{budget}.png"
    render(search_plot(rounds, untuned, found.plan)).light.save(out / picture)
    return BudgetSearch(
        untuned=untuned,
        untuned_distance=untuned_distance,
        found=found.plan,
        found_distance=found.distance,
        plans=len(tried),
        images=sum(one.images for one in costs),
        passes=sum(one.passes for one in costs),
        seconds=sum(one.seconds for one in costs),
        rounds=rounds,
        picture=picture,
    )


def _announce(budget: int, images: int, seconds: float) -> None:
    print(
        f"fpdm: tuning for {budget:,} block passes: at most {images:,} images ({_count(images * budget)} block "
        f"passes), about {_seconds(seconds)} if this machine stays as fast; images of an earlier call are not "
        "drawn again",
        file=sys.stderr,
    )


def _count(value: float) -> str:
    return f"{short(value / 1e6)} million" if value >= 1e6 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    found = duration([value])
    return f"{short(value / found.factor)} {found.name}"


def _shown(distance: float) -> str:
    return fixed(1e3 * distance, 2) + "e-3"
