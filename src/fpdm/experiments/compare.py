"""Runs compared at the same budgets, from the same noise and labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fpdm.data import ImageSet, load
from fpdm.evaluation import Classifier, Features, GaussianStatistics, classifier, frechet_distance, frechet_interval
from fpdm.files import write_atomically
from fpdm.generate import ImageSampler, Plan, balanced_labels
from fpdm.report.pictures import Curve, Panel, Row, save_curves, save_sheet
from fpdm.sampling import Budget
from fpdm.training import Run, load_run

SHOWN = 12  # images per model and budget in the picture
BATCH = 250
CHOOSING = 300  # images of each candidate plan, when one is chosen on the validation split


@dataclass(frozen=True)
class Choices:
    """How budgets are spent, the same for every model where it has a choice.

    Attributes:
        sampler: As `Plan.sampler`.
        grids: Timestep grids; of several, each model takes at each budget the one that is best on validation images.
        iterations: Per step, where the middle leaves a choice.
        allocation: As `Plan.allocation`; where there is nothing to share out, it changes nothing.
        reuse: As `Plan.reuse`.
        guidance: As `Plan.guidance`.
    """

    sampler: str = "ddim"
    grids: tuple[str, ...] = ("trailing",)
    iterations: int = 5
    allocation: str = "constant"
    reuse: bool = True
    guidance: float = 1.0

    def plans(self, run: Run, budget: int) -> list[Plan]:
        """The candidates for a run at a budget, one for each grid."""
        adjustable = len(run.model.cost().middle.iterations) > 1
        return [
            Plan(
                budget,
                self.iterations if adjustable else 0,
                self.sampler,
                grid,
                self.allocation if adjustable else "constant",  # type: ignore[arg-type]  # Plan checks it
                self.reuse and adjustable,
                self.guidance,
            )
            for grid in self.grids
        ]


@dataclass(frozen=True)
class Judge:
    """What distances are measured with.

    Attributes:
        classifier: Its features.
        chooser: Statistics of the validation images.
        reference: Statistics of the test images.
    """

    classifier: Classifier
    chooser: GaussianStatistics
    reference: GaussianStatistics


@dataclass(frozen=True)
class Drawn:
    """Images of a plan and what they cost.

    Attributes:
        images: (N, C, H, W) uint8.
        features: Of the images.
        passes: Block passes per image.
        macs: Multiply-accumulates per image.
        seconds: Per image.
    """

    images: Tensor
    features: Features
    passes: float
    macs: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """One row of `compare.json`: a model at a budget.

    Attributes:
        model: The recipe's name, with the run's folder where names repeat.
        run: The run's folder.
        parameters: Of the model.
        train_steps: Steps it was trained for.
        train_seconds: Seconds it was trained for.
        train_macs: Multiply-accumulates it was trained for.
        sampler: How it stepped.
        grid: Its timesteps.
        budget: Block passes that could be spent.
        iterations: Per step.
        steps: Sampling steps.
        allocation: Of the iterations.
        reuse: Whether solves started from the last solution.
        guidance: Its scale.
        passes: Block passes that were spent, mean per image.
        macs: Multiply-accumulates per image.
        seconds: Per image, on this machine.
        distance: Fréchet distance in the features of `Comparison.features`.
        distance_low: Lower end of its 95 % bootstrap interval.
        distance_high: Upper end.
        images: How many.
        seed: Of the noise.
    """

    model: str
    run: str
    parameters: int
    train_steps: int
    train_seconds: float
    train_macs: float
    sampler: str
    grid: str
    budget: int
    iterations: int
    steps: int
    allocation: str
    reuse: bool
    guidance: float
    passes: float
    macs: float
    seconds: float
    distance: float
    distance_low: float
    distance_high: float
    images: int
    seed: int


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        features: The features that distances are measured in.
        reference: The images that samples are compared with.
        floor: The distance between as many real training images and the reference.
        rows: One for each model and budget.
    """

    features: str
    reference: str
    floor: float
    rows: tuple[Result, ...]

    def to_text(self) -> str:
        """A table."""
        width = max(len(row.model) for row in self.rows) + 1
        lines = [
            f"Fréchet distance to {self.reference} in {self.features}; lower is better",
            f"(not FID; real images of the training split have {self.floor:.3g})",
            f"{'model':<{width}}{'budget':>7}{'grid':>10}{'steps':>7}{'iters':>7}{'passes':>8}{'MMACs':>8}{'ms':>7}{'distance':>10}"
            "   95 % interval",
        ]
        lines += [
            f"{r.model:<{width}}{r.budget:>7}{r.grid:>10}{r.steps:>7}{r.iterations:>7}{r.passes:>8.0f}"
            f"{r.macs / 1e6:>8.0f}{1e3 * r.seconds:>7.1f}{r.distance:>10.3g}"
            f"   {r.distance_low:.3g} to {r.distance_high:.3g}"
            for r in self.rows
        ]
        return "\n".join(lines)


def compare(
    folders: Sequence[Path],
    out: Path,
    *,
    budgets: Sequence[int],
    choices: Choices,
    num_images: int,
    seed: int,
    data_root: Path | None = None,
) -> str:
    """Sample every run at every budget, measure, and write `compare.json`, `samples.png` and `distance.png`.

    Args:
        folders: Runs, trained on the same data.
        out: Where to write.
        budgets: Block passes per image.
        choices: How to spend them.
        num_images: Per model and budget.
        seed: Image i has the same noise and label in every row. Plans are chosen with another.
        data_root: Folder with the data set's own files.

    Returns:
        A table as text.

    Raises:
        ValueError: Runs on different data, or a plan that does not fit a model.
    """
    if num_images < SHOWN:
        raise ValueError(f"num_images is {num_images}; expected at least {SHOWN}")
    runs = [load_run(folder) for folder in folders]
    data = {run.recipe.data for run in runs}
    if len(data) > 1:
        raise ValueError(f"the runs were trained on different data ({', '.join(sorted(data))}); they do not compare")
    cases = [(i, budget, choices.plans(runs[i], budget)) for budget in budgets for i in range(len(runs))]
    for i, _, plans in cases:
        for plan in plans:
            # Raises before anything long begins; an adaptive one is probed when its turn comes.
            ImageSampler(runs[i].model, runs[i].recipe.schedule, replace(plan, allocation="constant"))
    name = data.pop()
    train, validation, test = (load(name, split, root=data_root) for split in ("train", "validation", "test"))
    of_data = classifier(train, test)
    judge = Judge(
        of_data,
        GaussianStatistics.of(of_data.features(validation.images)),
        GaussianStatistics.of(of_data.features(test.images)),
    )
    names = [run.recipe.name for run in runs]
    labels = [n if names.count(n) == 1 else f"{n} ({f})" for n, f in zip(names, folders, strict=True)]
    rows, pictures = [], []
    for i, _, plans in tqdm(cases, desc="comparing", unit=" rows", disable=None, dynamic_ncols=True):
        plan = _choose(runs[i], plans, judge, seed + 1)
        drawn = _draw(runs[i], plan, judge, num_images, seed)
        row = _result(labels[i], folders[i], runs[i], plan, drawn, judge, seed)
        rows.append(row)
        caption = f"{row.model}\n{row.budget} passes: {row.steps} x {row.iterations}"
        pictures.append(Row(caption, drawn.images[:SHOWN]))
    floor = frechet_distance(GaussianStatistics.of(of_data.features(_balanced(train, num_images))), judge.reference)
    result = Comparison(of_data.name, f"the {len(test)} test images of {name}", floor, tuple(rows))
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "compare.json", json.dumps(asdict(result), indent=1))
    sheet = [*pictures, Row("real (test images)", _balanced(test, SHOWN))]
    save_sheet(sheet, out / "samples.png", title="The same noise and class in every column")
    _plot(result, out / "distance.png")
    return result.to_text() + f"\npictures and figures are in {out}: samples.png, distance.png, compare.json"


def _choose(run: Run, plans: Sequence[Plan], judge: Judge, seed: int) -> Plan:
    """The plan whose images are nearest to the validation split, with noise that no reported image has."""
    if len(plans) == 1:
        return plans[0]

    def distance(plan: Plan) -> float:
        drawn = _draw(run, plan, judge, CHOOSING, seed)
        return frechet_distance(GaussianStatistics.of(drawn.features), judge.chooser)

    return min(plans, key=distance)


def _draw(run: Run, plan: Plan, judge: Judge, num_images: int, seed: int) -> Drawn:
    sampler = ImageSampler(run.model, run.recipe.schedule, plan, seed=seed)
    made, passes, macs, seconds = [], 0.0, 0.0, 0.0
    for start in range(0, num_images, BATCH):
        chosen = range(start, min(start + BATCH, num_images))
        batch = sampler(chosen, balanced_labels(chosen, run.model.shape.num_classes))
        made.append(batch.pixels)
        passes, macs = passes + batch.passes * len(chosen), macs + batch.macs * len(chosen)
        seconds += batch.seconds
    images = torch.cat(made)  # (N, C, H, W)
    features = judge.classifier.features(images)
    return Drawn(images, features, passes / num_images, macs / num_images, seconds / num_images)


def _result(label: str, folder: Path, run: Run, plan: Plan, drawn: Drawn, judge: Judge, seed: int) -> Result:
    cost = run.model.cost()
    budget = Budget.of(plan.budget, cost)
    interval = frechet_interval(drawn.features, judge.reference, seed=seed)
    return Result(
        model=label,
        run=str(folder),
        parameters=cost.total_parameters,
        train_steps=run.progress.step,
        train_seconds=round(run.progress.seconds, 1),
        train_macs=run.progress.macs,
        sampler=plan.sampler,
        grid=plan.grid,
        budget=plan.budget,
        iterations=plan.iterations or budget.allowed.start,
        steps=budget.steps(plan.iterations or None),
        allocation=plan.allocation,
        reuse=plan.reuse,
        guidance=plan.guidance,
        passes=drawn.passes,
        macs=drawn.macs,
        seconds=drawn.seconds,
        distance=interval.value,
        distance_low=interval.low,
        distance_high=interval.high,
        images=len(drawn.images),
        seed=seed,
    )


def _balanced(data: ImageSet, count: int) -> Tensor:
    """Real images with the labels of generated ones: (count, C, H, W) uint8, some twice if need be."""
    of_class = [torch.nonzero(data.labels == label).flatten() for label in range(data.num_classes)]  # K of (N_k,)
    places = [of_class[label] for label in balanced_labels(range(count), data.num_classes)]  # count of (N_k,)
    chosen = [int(place[i // data.num_classes % len(place)]) for i, place in enumerate(places)]
    return data.images[chosen]  # (count, C, H, W)


def _plot(result: Comparison, path: Path) -> None:
    """Distance over the three currencies: block passes, exact MACs, seconds."""

    def panel(x_label: str, x: Callable[[Result], float]) -> Panel:
        curves = []
        for model in dict.fromkeys(row.model for row in result.rows):
            mine = [row for row in result.rows if row.model == model]
            curves.append(
                Curve(
                    f"{model}, {mine[0].parameters / 1e6:.2f} M parameters",
                    [x(row) for row in mine],
                    [row.distance for row in mine],
                    [row.distance_low for row in mine],
                    [row.distance_high for row in mine],
                )
            )
        return Panel(x_label, curves)

    save_curves(
        [
            panel("block passes per image", lambda row: row.passes),
            panel("MMACs per image", lambda row: row.macs / 1e6),
            panel("milliseconds per image, on this machine", lambda row: 1e3 * row.seconds),
        ],
        path,
        title="Sample quality under a budget",
        y_label="Fréchet distance (lower is better)\nin classifier features",
        floor=result.floor,
    )
