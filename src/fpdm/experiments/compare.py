"""Runs compared at the same budgets, from the same noise and labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fpdm.data import ImageSet, load
from fpdm.evaluation import Classifier, GaussianStatistics, classifier, frechet_distance, frechet_interval
from fpdm.generate import Generator, Plan, balanced_labels
from fpdm.report.pictures import Curve, Row, save_curves, save_sheet
from fpdm.training import Run, load_run

SHOWN = 12  # images per model and budget in the picture
BATCH = 250


@dataclass(frozen=True)
class Result:
    """One row of `compare.json`: a model at a budget.

    Attributes:
        model: The recipe's name.
        run: The run's folder.
        parameters: Of the model.
        train_steps: Steps it was trained for.
        train_seconds: Seconds it was trained for.
        sampler: How it stepped.
        grid: Its timesteps.
        budget: Block passes that could be spent.
        iterations: Per step.
        steps: Sampling steps.
        allocation: Of the iterations.
        reuse: Whether solves started from the last solution.
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
    sampler: str
    grid: str
    budget: int
    iterations: int
    steps: int
    allocation: str
    reuse: bool
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
        lines = [
            f"Fréchet distance to {self.reference} in {self.features}; lower is better",
            f"(not FID; real images of the training split have {self.floor:.3g})",
            f"{'model':<14}{'budget':>7}{'steps':>7}{'iters':>7}{'passes':>8}{'MMACs':>8}{'ms':>7}{'distance':>10}"
            "   95 % interval",
        ]
        lines += [
            f"{r.model:<14}{r.budget:>7}{r.steps:>7}{r.iterations:>7}{r.passes:>8.0f}{r.macs / 1e6:>8.0f}"
            f"{1e3 * r.seconds:>7.1f}{r.distance:>10.3g}   {r.distance_low:.3g} to {r.distance_high:.3g}"
            for r in self.rows
        ]
        return "\n".join(lines)


def compare(
    folders: Sequence[Path],
    out: Path,
    *,
    budgets: Sequence[int],
    iterations: int,
    num_images: int,
    sampler: str,
    seed: int,
    data_root: Path | None = None,
) -> str:
    """Sample every run at every budget, measure, and write `compare.json`, `samples.png` and `distance.png`.

    Args:
        folders: Runs, trained on the same data.
        out: Where to write.
        budgets: Block passes per image.
        iterations: Per step, for models that leave a choice.
        num_images: Per model and budget.
        sampler: Of all models.
        seed: Image i has the same noise and label in every row.
        data_root: Folder with the data set's own files.

    Returns:
        A table as text.

    Raises:
        ValueError: Runs on different data, or a budget that is too small.
    """
    if num_images < SHOWN:
        raise ValueError(f"num_images is {num_images}; expected at least {SHOWN}")
    runs = [(folder, load_run(folder)) for folder in folders]
    names = {run.recipe.data for _, run in runs}
    if len(names) > 1:
        raise ValueError(
            f"the runs were trained on different data ({', '.join(sorted(names))}); their distances do not compare"
        )
    plans = [(folder, run, _plan(run, budget, iterations, sampler)) for budget in budgets for folder, run in runs]
    for _, run, plan in plans:
        Generator(run.model, run.recipe.schedule, plan)  # raises before anything long begins
    data = names.pop()
    train, test = (load(data, split, root=data_root) for split in ("train", "test"))
    judge = classifier(train, test)
    reference = GaussianStatistics.of(judge.features(test.images))
    rows, pictures = [], []
    for folder, run, plan in tqdm(plans, desc="comparing", unit="row", disable=None, dynamic_ncols=True):
        row, images = _measure(folder, run, plan, judge, reference, num_images, seed)
        rows.append(row)
        pictures.append(Row(f"{row.model}\n{row.budget} passes: {row.steps} x {row.iterations}", images[:SHOWN]))
    floor = frechet_distance(GaussianStatistics.of(judge.features(_balanced(train, num_images))), reference)
    result = Comparison(judge.name, f"the {len(test)} test images of {data}", floor, tuple(rows))
    (out / "compare.json").write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    _draw(result, pictures, test, out)
    return result.to_text() + f"\npictures and figures are in {out}: samples.png, distance.png, compare.json"


def _plan(run: Run, budget: int, iterations: int, sampler: str) -> Plan:
    adjustable = len(run.model.cost().middle.iterations) > 1
    return Plan(budget, iterations if adjustable else 0, sampler)


def _measure(
    folder: Path, run: Run, plan: Plan, judge: Classifier, reference: GaussianStatistics, num_images: int, seed: int
) -> tuple[Result, Tensor]:
    """One row, and its images (N, C, H, W) uint8."""
    generator = Generator(run.model, run.recipe.schedule, plan, seed=seed)
    made, passes, macs, seconds = [], 0.0, 0.0, 0.0
    for start in range(0, num_images, BATCH):
        chosen = range(start, min(start + BATCH, num_images))
        batch = generator(chosen, balanced_labels(chosen, run.model.shape.num_classes))
        made.append(batch.pixels)
        passes, macs, seconds = (
            passes + batch.passes * len(chosen),
            macs + batch.macs * len(chosen),
            seconds + batch.seconds,
        )
    images = torch.cat(made)  # (N, C, H, W)
    features = judge.features(images)  # (N, F)
    interval = frechet_interval(features, reference, seed=seed)
    row = Result(
        model=run.recipe.name,
        run=str(folder),
        parameters=generator.cost.total_parameters,
        train_steps=run.progress.step,
        train_seconds=round(run.progress.seconds, 1),
        sampler=plan.sampler,
        grid=plan.grid,
        budget=plan.budget,
        iterations=plan.iterations or generator.budget.allowed.start,
        steps=len(generator.timesteps),
        allocation=plan.allocation,
        reuse=plan.reuse,
        passes=passes / num_images,
        macs=macs / num_images,
        seconds=seconds / num_images,
        distance=interval.value,
        distance_low=interval.low,
        distance_high=interval.high,
        images=num_images,
        seed=seed,
    )
    return row, images


def _balanced(data: ImageSet, count: int) -> Tensor:
    """Real images with the labels of generated ones: (count, C, H, W) uint8, some twice if need be."""
    of_class = [torch.nonzero(data.labels == label).flatten() for label in range(data.num_classes)]  # K of (N_k,)
    places = [of_class[label] for label in balanced_labels(range(count), data.num_classes)]  # count of (N_k,)
    chosen = [int(place[i // data.num_classes % len(place)]) for i, place in enumerate(places)]
    return data.images[chosen]  # (count, C, H, W)


def _draw(result: Comparison, pictures: list[Row], test: ImageSet, out: Path) -> None:
    sheet = [*pictures, Row("real (test images)", _balanced(test, SHOWN))]
    save_sheet(sheet, out / "samples.png", title="The same noise and class in every column")
    names = dict.fromkeys(row.model for row in result.rows)
    curves = []
    for name in names:
        mine = [row for row in result.rows if row.model == name]
        curves.append(
            Curve(
                f"{name}, {mine[0].parameters / 1e6:.2f} M parameters",
                [row.budget for row in mine],
                [row.distance for row in mine],
                [row.distance_low for row in mine],
                [row.distance_high for row in mine],
            )
        )
    save_curves(
        curves,
        out / "distance.png",
        title="Sample quality under a budget",
        x_label="block passes per image",
        y_label="Fréchet distance (lower is better)\nin classifier features",
        floor=result.floor,
    )
