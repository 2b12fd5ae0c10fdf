"""Inspect a model: sample a few images, and write what happened on the way into a folder of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fpdm.configuration import Record
from fpdm.data.config import DATASETS, UNKNOWN
from fpdm.data.images import ImageSet
from fpdm.data.labels import balanced_labels
from fpdm.data.loading import load_images
from fpdm.drawing.text import shortened
from fpdm.evaluation.extractor import train_extractor
from fpdm.evaluation.nearest import Nearest, nearest, nearest_in_pixels
from fpdm.files import read_json, write_atomically, write_json
from fpdm.inspection import pictures
from fpdm.inspection.measure import Sampling, Solves, inspect_adaptive, inspect_sampling
from fpdm.inspection.settings import INSPECTED, RECORD, InspectionSettings
from fpdm.progress_bar import progress_bar
from fpdm.runs.run import Run
from fpdm.runs.training_images import training_images
from fpdm.sampling.plan import Plan


@dataclass(frozen=True)
class Inspected(Record):
    """Result of an inspection.

    Attributes:
        out: The folder.
        files: What was written into it, by name, and what each shows.
        facts: What there is to know without looking, one sentence each.
    """

    out: Path
    files: dict[str, str]
    facts: tuple[str, ...]

    def to_text(self) -> str:
        """Return the facts and the list of files."""
        width = max(map(len, self.files))
        listed = [f"  {name:<{width}}  {what}" for name, what in self.files.items()]
        return "\n".join([*self.facts, f"{self.out}:", *listed])


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The training images nearest to some images.

    Attributes:
        data: The training images.
        features: The nearest in the features of the data's extractor.
        pixels: The nearest in pixels.
        extractor: Name of the features.
        unseen: Median distance of the test images to their nearest training image, in features.
    """

    data: ImageSet
    features: Nearest
    pixels: Nearest
    extractor: str
    unseen: float


def inspect(
    run: Run,
    plan: Plan,
    out: Path,
    settings: InspectionSettings,
    *,
    label: int | None = None,
    data: str = "",
    data_root: Path | None = None,
    overwrite: bool = False,
) -> Inspected:
    """Inspect a model.

    Args:
        run: The model.
        plan: How to spend the budget, without self-guidance.
        out: The folder to write.
        settings: What is looked at.
        label: The class of all images; None takes the classes in turn.
        data: Path or name of the training images, if they are no longer where the model recorded them.
        data_root: Folder with the files of a named data set.
        overwrite: Replace an inspection of another model or with other settings.

    Raises:
        ValueError: The plan does not fit the model, the images are not those that it was trained on or cannot be
            loaded, or the folder has other files or another inspection.
        RunError: The samples are not finite.
    """
    if plan.self_guidance:
        raise ValueError(
            "self_guidance is for sampling; an inspection looks at the model's own answers, so leave it out"
        )
    run.check_fits(settings.num_images, plan.guidance)
    asked = {
        "run": run.recipe.name,
        "weights_sha256": run.weights,
        "plan": plan.values(),
        "settings": {**asdict(settings), "class": label},
    }
    _check_same(out, asked, overwrite=overwrite)
    dataset = _training_images(run, data, data_root)
    every = range(settings.num_images)
    labels = balanced_labels(every, run.model.shape.num_classes) if label is None else [label] * len(every)
    adjustable = run.model.cost().middle.adjustable
    with INSPECTED.hold(out):
        with progress_bar("inspecting", 3 if adjustable else 2, "parts", leave=True) as bar:
            with bar.step(note="sampling"):
                sampling, solves = inspect_sampling(
                    run, plan, labels, seed=settings.seed, rows=settings.rows, columns=settings.columns
                )
            adaptive = None
            if adjustable:
                with bar.step(note="with the adaptive allocation"):
                    adaptive = inspect_adaptive(run, plan, labels, seed=settings.seed)
            with bar.step(note="nearest training images"):
                found = None if dataset is None else _nearest(sampling.images, *dataset)
        return _write(run, plan, out, asked, labels, sampling, solves, adaptive, found)


def _check_same(out: Path, asked: dict[str, Any], *, overwrite: bool) -> None:
    """Raise if the folder has an inspection of something else."""
    if overwrite or not (out / RECORD).exists():
        return
    try:
        before = read_json(out / RECORD)
    except ValueError:
        return  # a damaged one counts as none
    changed = [name for name, value in asked.items() if before.get(name) != json.loads(json.dumps(value))]
    if changed:
        raise ValueError(
            f"{out} has an inspection with another {' and '.join(changed)}; choose another folder, or replace it with "
            "--overwrite"
        )


def _training_images(run: Run, data: str, root: Path | None) -> tuple[ImageSet, ImageSet] | None:
    """Load the images that a model was trained on, and those that it was tested on; None if they are not known.

    Raises:
        ValueError: They cannot be loaded, or are others.
    """
    config = run.recipe.data
    if config.source == UNKNOWN and not data:
        return None
    if data:
        config = training_images(run, data)
    if config.folder is not None and not config.folder.exists():
        raise ValueError(f"the training images are not in {config.source}; say where they are with --data")
    dataset = load_images(config, root=root, learn_classes=False)
    train = dataset.splits.train
    if train.shape != run.image_shape:
        raise ValueError(
            f"the images of {config.source} are {train.shape}, but the model makes {run.image_shape}; give the images "
            "that it was trained on with --data"
        )
    known = "" if run.recipe.autoencoder.source or not config.conditional else run.recipe.images
    if known and known != dataset.sha256 and config.source not in DATASETS:
        raise ValueError(
            f"the images of {config.source} are not those that the model was trained on; give them with --data"
        )
    return train, dataset.splits.test


def _nearest(images: Tensor, train: ImageSet, test: ImageSet) -> TrainingImages:
    extractor = train_extractor(train, test)
    real = extractor.features(train.images)  # (M, F)
    unseen = nearest(extractor.features(test.images[:1000]), real).distances.median().item()
    return TrainingImages(
        train,
        nearest(extractor.features(images), real),
        nearest_in_pixels(images, train.images),
        extractor.name,
        max(unseen, 1e-12),
    )


def _write(
    run: Run,
    plan: Plan,
    out: Path,
    asked: dict[str, Any],
    labels: Sequence[int],
    sampling: Sampling,
    solves: Solves | None,
    adaptive: Sampling | None,
    found: TrainingImages | None,
) -> Inspected:
    """Write the pictures and the record."""
    names = run.classes.names
    captions = [names[label] if names else f"image {place}" for place, label in enumerate(labels)]
    followed = 0 if solves is None else solves.shown
    caption = f"image {followed}" + (f" ({names[labels[followed]]})" if names else "")
    title, rows = shortened(run.recipe.name, 24), asked["settings"]["rows"]
    starts = "each solve from the previous one" if plan.reuse else "cold starts"
    files, facts = dict[str, str](), list[str]()
    for name in pictures.FILES:
        (out / name).unlink(missing_ok=True)

    def save(name: str, picture: bytes, what: str) -> None:
        write_atomically(out / name, picture)
        files[name] = what

    save(
        pictures.PREVIEWS,
        pictures.previews(title, sampling, captions, rows),
        "predicted clean images over the timesteps",
    )
    save(pictures.FILM, pictures.film(sampling), "the same as a film")
    record: dict[str, Any] = {
        **asked,
        "passes": sampling.passes,
        "timesteps": list(sampling.timesteps),
        "iterations": sampling.iterations.tolist(),
    }
    unit = "iteration" if adaptive else "block"
    facts.append(
        f"{run.recipe.name}: {len(labels)} images, {len(sampling.timesteps)} steps, {sampling.passes:.1f} of "
        f"{plan.budget} block passes each"
    )
    if solves is not None:
        what = f"predicted clean image after each {unit} of the solve, at {len(solves.timesteps)} timesteps"
        save(pictures.SOLVES, pictures.solves(title, solves, caption, unit), what)
    if solves is not None and solves.residuals:
        save(
            pictures.RESIDUALS,
            pictures.residuals(title, solves, starts),
            "relative change by timestep and iteration; the plan stops at the white line",
        )
        record["residuals"] = {
            "timesteps": list(solves.timesteps),
            "iterations": list(solves.iterations),
            "values": [list(row) for row in solves.residuals],
        }
        at = min(len(solves.iterations), max(1, round(sum(solves.spent) / len(solves.spent)))) - 1
        column = [row[at] for row in solves.residuals]
        worst = max(range(len(column)), key=column.__getitem__)
        facts.append(
            f"after {solves.iterations[at]} iterations the iterate still changes by {min(column):.2g} to "
            f"{max(column):.2g} of its norm, most at timestep {solves.timesteps[worst]:g}"
        )
    if adaptive is not None:
        save(
            pictures.ALLOCATION,
            pictures.allocation(sampling, adaptive, captions),
            "iterations by timestep and image, as planned and with the adaptive allocation",
        )
        record["adaptive"] = {
            "passes": adaptive.passes,
            "timesteps": list(adaptive.timesteps),
            "iterations": adaptive.iterations.tolist(),
        }
        mean = adaptive.iterations.mean(1)  # (S,)
        facts.append(
            f"the adaptive allocation spends {adaptive.passes:.1f} passes, {mean.min():.1f} to {mean.max():.1f} "
            f"iterations per step, most at timestep {adaptive.timesteps[int(mean.argmax())]:g}"
        )
    if found is None:
        facts.append("no nearest training images: the model does not record which those are; give them with --data")
    else:
        ratios = found.features.distances / found.unseen  # (N,)
        save(
            pictures.NEAREST,
            pictures.nearest(sampling.images, found.data.images, found.features, found.pixels, ratios.tolist()),
            f"the nearest training images in {found.extractor} and in pixels",
        )
        record["nearest"] = {
            "extractor": found.extractor,
            "indices": found.features.indices.tolist(),
            "distances": found.features.distances.tolist(),
            "median_of_unseen_images": found.unseen,
            "pixel_indices": found.pixels.indices.tolist(),
            "pixel_distances": found.pixels.distances.tolist(),
        }
        facts.append(
            f"the nearest training image is {ratios.median():.2f} times as far away as that of an unseen image "
            f"(median; the nearest of all {ratios.min():.2f})"
        )
    files[RECORD] = "all of these as numbers"
    write_json(out / RECORD, record)
    return Inspected(out, files, tuple(facts))
