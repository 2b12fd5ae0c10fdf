"""`fpdm train`: a recipe, with whatever is changed of it, and the images to train on.

With a folder of images alone, there is no recipe to start from: how to train on it is chosen by a look at the images
and the machine (`fpdm.training.choice`), for the time given.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.commands.options import Fields, Result
from fpdm.configuration import NonNegativeNumber, Workers, check
from fpdm.data.config import DATASETS, UNKNOWN, DataConfig
from fpdm.data.manifest import check_expected, read_manifest
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import printable
from fpdm.models.config import TransformerConfig
from fpdm.runs.layout import CHOICE, RECIPE, RUN, SAMPLES
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import CACHE, FOLDER, RECIPES, make_recipe
from fpdm.runs.train_config import TrainConfig, WarmStart

if TYPE_CHECKING:
    from fpdm.training.choice import Choice
    from fpdm.training.dry_run import DryRun
    from fpdm.training.outcome import Outcome

MAIN_OPTIONS = ("out", "data", "model", "minutes", "size", "batch_size")
CHOSEN_MODEL = "fpdm-elastic"  # of a folder with nothing else said: results/own-folders
CHOSEN_MINUTES = 30.0
STEPS_SHARE = 0.9  # of --minutes; the rest is for encoding, samples, validation and checkpoints
_NOTHING: Mapping[str, Any] = MappingProxyType({})
PLACEHOLDERS = (FOLDER, CACHE)  # shown by the help; training requires --data


@dataclass(frozen=True)
class Trained:
    """A run that has reached its end.

    Attributes:
        name: Name of the recipe.
        out: Folder of the run.
        progress: Steps and seconds of the whole run.
        resumed_at: Step at which this call started.
        outcome: What came out of it.
    """

    name: str
    out: Path
    progress: Progress
    resumed_at: int
    outcome: Outcome

    def to_json(self) -> str:
        """Return every field as JSON."""
        return json.dumps({**asdict(self), "still_noise": self.outcome.still_noise}, indent=1, default=str)

    def to_text(self) -> str:
        """Say what was trained, what came out, and what to do next."""
        done = self.progress
        if done.step == self.resumed_at:
            return f"nothing left to do: {self.out} is trained ({done.step} steps)"
        skipped = f", {done.skipped} skipped for want of a finite gradient" if done.skipped else ""
        line = f"trained {self.name}: {done.step} steps in {done.seconds:.0f} s{skipped}; the run is in {self.out}"
        return f"{line}\n{self.outcome.to_text()}"


@dataclass(frozen=True)
class Planned:
    """A choice that was not trained, and its needs."""

    choice: Choice
    needs: DryRun

    def to_text(self) -> str:
        """Return the choice, the memory that it needs, and what to do next."""
        return (
            f"{self.choice.to_text()}\n  memory    about {self.needs.memory.peak / 1e9:.1f} GB\n"
            "nothing was trained; the same with --out FOLDER instead of --dry-run trains it"
        )

    def to_json(self) -> str:
        """Return the figures of both as JSON."""
        return json.dumps({**json.loads(self.needs.to_json()), "choice": json.loads(self.choice.to_json())}, indent=1)


class Json(str):
    """A text that is JSON already."""

    def to_text(self) -> str:
        """Return the text itself."""
        return self

    to_json = to_text


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Look up the recipe that was chosen, whose values are the defaults of the options."""
    data, chosen = given.get("data"), given.get("recipe")
    if "minutes" in given:
        check("minutes", given["minutes"], NonNegativeNumber)
    if given.get("minutes"):
        if given.get("seconds"):
            raise ValueError(f"--minutes {given['minutes']:g} and --seconds {given['seconds']:g}: give one of them")
        given = {**given, "seconds": 60 * STEPS_SHARE * given["minutes"]}
    if chosen is None and data is not None:
        chosen = data if data in DATASETS else "folder"
        if _is_open(given):
            given = {"model": CHOSEN_MODEL, "seconds": 60 * STEPS_SHARE * CHOSEN_MINUTES, **given}
    base = _recipe("digits" if chosen is None else chosen, given)
    limits = {name: given[name] for name in ("steps", "seconds", "macs") if name in given}
    training = replace(base.train, steps=0, **limits) if limits and "steps" not in limits else base.train
    found: dict[str, Any] = {
        "name": _name_of(given["out"], base.name) if "out" in given else base.name,
        "model": given.get("model", "fpdm"),
        "training": training,
        "images": base.data,
        "network": base.model,
        "noise_schedule": base.schedule,
        "latents": base.autoencoder,
        "warm_start": base.start,
    }
    if chosen is not None:
        found["recipe"] = chosen
    nothing_trained = given.get("print_recipe") or given.get("dry_run")
    if data is not None or nothing_trained or base.data.source not in PLACEHOLDERS:
        found["data"] = base.data.source
    if nothing_trained:
        found["out"] = Path()
    return found


def train(
    recipe: str,
    *,
    out: Path,
    model: str = "fpdm",
    data: str,
    minutes: NonNegativeNumber = 0.0,
    data_root: Path | None = None,
    space: Literal["", "pixels", "latents"] = "",
    autoencoder: str = "",
    strict: bool = False,
    workers: Workers | None = None,
    print_recipe: bool = False,
    dry_run: bool = False,
    name: str,
    training: Annotated[TrainConfig, Fields()],
    images: Annotated[DataConfig, Fields(without=("source",))],
    network: Annotated[TransformerConfig, Fields(without=("image_size", "in_channels", "num_classes"))],
    noise_schedule: Annotated[Schedule, Fields()],
    latents: Annotated[AutoencoderConfig, Fields(without=("source", "sha256", "pad"))],
    warm_start: Annotated[WarmStart, Fields(without=("init_sha256",))],
    line: str = "",
    given: Mapping[str, Any] = _NOTHING,
    started: float = math.inf,
) -> Result | None:
    """Train a model; the same command resumes an interrupted run.

    With --data FOLDER and no recipe, --steps or --macs, it looks at the images and times a few steps, chooses size,
    pixels or latents, model, batch and rate for the --minutes that you give, and says what to expect. Whatever you give
    beside it is taken.

    Args:
        recipe: digits, fashion-mnist or folder; for latents, fashion-latents, imagenet-256, celebahq-256, ffhq-256 or
            lsun-church-256; or a JSON file: the recipe.json of a run, or your own, which --print-recipe gives a first
            draft of. The recipe sets the defaults of all options below. With --data alone it is folder, and what is
            not given is chosen for the time.
        out: Folder for the run. The same command resumes an interrupted run.
        model: Model of the recipe: fpdm, fpdm-everywhere, fpdm-elastic, dit (28 blocks), dit-N or shared-N (N blocks).
            A JSON file says itself which model it is.
        data: Folder of images, with one subfolder per class if there are classes; latent cache written by fpdm prepare;
            digits or fashion-mnist.
        minutes: Minutes for everything, nine tenths of them for training steps; with --data alone fewer, if the rest
            takes long (default there: 30). --seconds counts the steps alone.
        data_root: Folder with the files of a data set that is given by name.
        space: Train on pixels, or on latents of an autoencoder that is trained first (default: chosen). For --data
            FOLDER alone.
        autoencoder: Path or hub id of the autoencoder of a latent cache, if it is no longer where the cache recorded
            it. It draws the samples during training.
        strict: Stop at the first image that cannot be read, instead of skipping it.
        workers: Threads that read a folder's images (default: one per core, at most 8).
        print_recipe: Print the recipe, with your changes, as JSON and exit.
        dry_run: Train nothing; print the parameters, compute, steps and memory that the run needs, and the measured
            seconds per step. Needs no data.
        name: Name of the run in tables and pictures. A run that is resumed keeps its name if none is given.
        training: How to train. With --seconds or --macs, --steps is 0 unless you give it.
        images: How the images of a folder are used.
        network: The shape of the model. Its image size, channels and number of classes are taken from the images.
        noise_schedule: How noise is added, and what the network predicts.
        latents: Autoencoder of the latents that the recipe expects.
        warm_start: The weights that training starts from.
        line: The command line, recorded in the run's README.
        given: The options that are given, by name.
        started: When the command began, by `time.monotonic`; infinite if that does not matter.
    """
    if warm_start.init_from:
        warm_start = replace(warm_start, init_from=os.path.realpath(warm_start.init_from))
    settings = Recipe(name, images, network, training, noise_schedule, latents, warm_start)
    is_open = "recipe" not in given and _is_open(
        {**dict.fromkeys(given, True), "data": data, "out": None if dry_run else out}
    )
    if space and not is_open:
        raise ValueError(f"--space {space} is for --data FOLDER with neither a recipe nor --steps or --macs")
    if print_recipe:
        return Json(settings.to_json())
    if not dry_run:
        folder = settings.data.folder
        settings.data.check_options(DataConfig(settings.data.source))
        RUN.check(out, {"image folder": folder})
        if folder is not None and not folder.exists() and Path(recipe).is_file():
            what = "latents" if settings.autoencoder.source else "images"
            raise ValueError(f"the {what} of {recipe} are not in {folder}; say where they are with --data")
        if settings.data.is_cache:
            check_expected(settings.data, settings.autoencoder)
    from fpdm.data.loading import load_dataset
    from fpdm.devices import default_device
    from fpdm.processes import processes
    from fpdm.runs.data_card import DataCard, check_data_card, write_data_card
    from fpdm.training import dry_run as estimate
    from fpdm.training import own_images
    from fpdm.training.memory import check_fits
    from fpdm.training.outcome import outcome
    from fpdm.training.trainer import Trainer

    if is_open:
        whole = None if "seconds" in given else 60 * (minutes or CHOSEN_MINUTES)  # --seconds counts the steps alone
        choice = own_images.decide(
            settings, None if dry_run else out, given=frozenset(given), space=space, whole=whole, started=started
        )
        if dry_run:
            return Planned(choice, estimate.dry_run(choice.recipe))
        _say(choice, out)
        settings, own = choice.recipe, own_images.OwnImages(choice, out, strict=strict, workers=workers)
        check_fits(settings, settings.train.batch_size, device=str(default_device()))
        with RUN.hold(out):
            settings = own.make_latents()
            autoencoder = own.autoencoder
    if not dry_run:  # before the images are read; the trainer, which knows their size, checks again
        started = processes().num_processes
        samples = settings.train.micro_batch(started)
        check_fits(settings.at_least(), samples, device=str(default_device()), processes=started)
    if dry_run:
        estimated = estimate.dry_run(settings)
        return estimated if processes().is_main_process else None
    dataset = load_dataset(settings.data, root=data_root, strict=strict, workers=workers)
    examples = dataset.splits.train
    if settings.data.conditional and settings.model.num_classes and not examples.num_classes:
        warnings.warn(
            f"the recipe has {settings.model.num_classes} classes and {settings.data.source} none; training without "
            "classes",
            RuntimeWarning,
            stacklevel=2,
        )
    settings = settings.fitted(examples, dataset.sha256)
    if autoencoder:
        settings = replace(settings, autoencoder=settings.autoencoder.moved_to(autoencoder))
    trainer = Trainer(settings, examples, out, validation=dataset.splits.validation, command=line)
    is_main = trainer.accelerator.is_main_process
    card = DataCard.of(settings.data.source, dataset)
    if is_main and dataset.summary is not None:
        print(f"{dataset.summary.to_text()}\n  splits    {card.to_text()}", file=sys.stderr)
    check_data_card(out, settings, card)  # by every process, so that all leave together
    with RUN.hold(out) if is_main else nullcontext():
        if is_main:
            write_data_card(out, settings, card, dataset)
        done = trainer.train()
    if not is_main:
        return None
    return Trained(settings.name, out, done, trainer.resumed_at, outcome(out, trainer.recipe, done, examples))


def _say(choice: Choice, out: Path) -> None:
    """Say what is about to happen; a run that is resumed needs no more than that."""
    if (out / CHOICE).exists():
        print(f"{printable(out)}: trained as {CHOICE} in it says", file=sys.stderr, flush=True)
        return
    from fpdm.drawing.numbers import time_in_words

    lines, train = [choice.to_text()], choice.recipe.train
    if train.draws_samples:
        when = "as it trains" if train.sample_every else "at the end"
        if 0 < train.sample_after < train.seconds:
            when = f"after {time_in_words(train.sample_after)} of training, then more seldom"
        lines.append(f"  watch     {printable(out / SAMPLES)}: samples {when}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _is_open(given: Mapping[str, Any]) -> bool:
    """Whether a folder of images is given and nothing that says how to train on it, so that this is chosen.

    A run of a recipe goes on as it was started, and several processes, whose clocks would choose differently, take the
    recipe as well.
    """
    data, out = given.get("data"), given.get("out")
    if any(given.get(name) for name in ("steps", "macs", "print_recipe", "data_root")) or not data:
        return False
    if data in DATASETS or not Path(data).is_dir() or DataConfig(data).is_cache:
        return False
    from fpdm.processes import is_one_of_several  # imports PyTorch

    if is_one_of_several():
        return False
    return out is None or (Path(out) / CHOICE).exists() or not (Path(out) / RECIPE).exists()


def _name_of(run: Path, name: str) -> str:
    """Return the name of a run that exists, which may be that of a folder that has moved; else the given name."""
    try:
        return Recipe.read(run / RECIPE).name
    except (OSError, ValueError):
        return name


def _recipe(name: str, given: Mapping[str, Any]) -> Recipe:
    """Make the recipe with this name, or read it from this file, for the model and the images in `given`."""
    path, data = Path(name), given.get("data")
    if name in RECIPES or not name or not (path.exists() or path.suffix):
        if name == "folder" and data is None:
            data = FOLDER
        images = None if data is None else _images(_source(data), given)
        return make_recipe(name, given.get("model", "fpdm"), data=images)
    if path.is_dir():
        raise ValueError(f"{name} is a folder; to train on the images in it, give it as --data {name}")
    if "model" in given:
        raise ValueError(f"--model {given['model']} is for a recipe with a name; {name} says which model")
    read = Recipe.read(path)
    source = _source(read.data.source if data is None else data)
    return replace(read, data=replace(read.data, source=source), images="")


def _images(source: str, given: Mapping[str, Any]) -> DataConfig:
    """Describe the images; for a cache, size and crop default to those of its images."""
    changes = {one.name: given[one.name] for one in fields(DataConfig) if one.name in given}
    config = DataConfig(source, **changes)
    return replace(read_manifest(source).data, source=source, **changes) if config.is_cache else config


def _source(data: str) -> str:
    """Make a folder's path absolute, so that a run finds its images wherever it is resumed from."""
    return os.path.realpath(data) if data and data not in (*DATASETS, *PLACEHOLDERS, UNKNOWN) else data
