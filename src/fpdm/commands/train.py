"""`fpdm train`: a recipe with whatever is changed of it, and the images that it is trained on."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.commands.folders import apart, writable
from fpdm.commands.options import Command, Given, Group
from fpdm.data.config import DATASETS, UNKNOWN, DataConfig
from fpdm.data.loading import load_dataset
from fpdm.data.manifest import check_expected, read_manifest
from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import TransformerConfig
from fpdm.processes import processes
from fpdm.runs.data_card import DataCard, check_data_card, write_data_card
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import CACHE, FOLDER, RECIPES, make_recipe
from fpdm.runs.train_config import TrainConfig, WarmStart
from fpdm.training.dry_run import DryRun, dry_run
from fpdm.training.trainer import Trainer

PLACEHOLDERS = (FOLDER, CACHE)  # for the help to show; to train, --data is required


@dataclass(frozen=True)
class Trained:
    """A run that has come to its end.

    Attributes:
        name: The recipe's.
        out: The run's folder.
        progress: How far it has come.
        resumed_at: The step that it was taken up at.
    """

    name: str
    out: Path
    progress: Progress
    resumed_at: int

    def to_text(self) -> str:
        """A line."""
        done = self.progress
        if done.step == self.resumed_at:
            return f"nothing left to do: {self.out} is trained ({done.step} steps)"
        skipped = f", {done.skipped} skipped for want of a finite gradient" if done.skipped else ""
        return f"trained {self.name}: {done.step} steps in {done.seconds:.0f} s{skipped}; the run is in {self.out}"

    def to_json(self) -> str:
        """Every field."""
        return json.dumps({**asdict(self), "out": str(self.out)}, indent=1)


@dataclass(frozen=True)
class Printed:
    """A text that is JSON, for people and machines alike."""

    text: str

    def to_text(self) -> str:
        """It."""
        return self.text

    def to_json(self) -> str:
        """It."""
        return self.text


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a model; the same command resumes an interrupted run.

    Attributes:
        recipe: digits, fashion-mnist or folder; of latents fashion-latents, imagenet-256, celebahq-256, ffhq-256 or
            lsun-church-256; or a JSON file: a run's recipe.json, or one of your own, which --print-recipe writes a
            first draft of. It gives all options below their defaults. With --data alone it is folder.
        out: Folder of the run. The same command goes on with a run that was interrupted.
        model: Which model of the recipe: fpdm, fpdm-everywhere, fpdm-elastic, dit (28 blocks), dit-N or shared-N (N
            blocks). A JSON file has its own.
        data: Folder of images, with a folder for each class if there are classes; a cache of latents made by fpdm
            prepare; or digits or fashion-mnist.
        data_root: Folder with the own files of a data set that comes by name.
        strict: Stop at an image that cannot be read, instead of leaving it out.
        workers: Threads that read a folder's images (default: one for each core, 8 at most).
        print_recipe: Print the recipe, with what was changed of it, as JSON, and do nothing else.
        dry_run: Train nothing: print the parameters, compute, steps and memory that the run would need, and the seconds
            of a step, measured over a few. Needs no data.
        name: What the run is called in tables and pictures.
        training: How to train. With --seconds or --macs, --steps is 0 unless it is given.
        image: How a folder's images are used.
        network: The model's shape. Its image size, channels and number of classes are no options: they are taken from
            the images.
        schedule: How noise is added, and what is predicted.
        autoencoder: Whose latents the recipe expects; no options, for it is the cache's.
        start: The weights to begin with.
    """

    recipe: Positional[str]
    out: Path
    model: str = "fpdm"
    data: str
    data_root: Path | None = None
    strict: bool = False
    workers: int | None = None
    print_recipe: bool = False
    dry_run: bool = False
    name: str
    training: TrainConfig
    image: Annotated[DataConfig, Group(without=("source",))]
    network: Annotated[TransformerConfig, Group(without=("image_size", "in_channels", "num_classes"))]
    schedule: Schedule
    autoencoder: Annotated[AutoencoderConfig, Group(without=("source", "sha256", "pad"))]
    start: Annotated[WarmStart, Group(without=("init_sha256",))]

    @classmethod
    def defaults(cls, given: Given) -> dict[str, Any]:
        """All that makes up a recipe, from the recipe that was chosen."""
        data, chosen = given.get("data"), given.get("recipe")
        if chosen is None and data is not None:
            chosen = data if data in DATASETS else "folder"
        base = _recipe("digits" if chosen is None else chosen, given)
        limits = {key: value for key, value in given.get("training", {}).items() if key in ("steps", "seconds", "macs")}
        if limits and "steps" not in limits:
            base = replace(base, train=replace(base.train, steps=0, **limits))
        found = {
            "name": base.name,
            "training": base.train,
            "image": base.data,
            "network": base.model,
            "schedule": base.schedule,
            "autoencoder": base.autoencoder,
            "start": base.start,
        }
        if chosen is not None:
            found["recipe"] = chosen
        nothing_trained = given.get("print_recipe") or given.get("dry_run")
        if data is not None or nothing_trained or base.data.source not in PLACEHOLDERS:
            found["data"] = base.data.source
        if nothing_trained:
            found["out"] = Path()
        return found

    def execute(self) -> Trained | Printed | DryRun | None:
        """Train, or say what would be trained."""
        start = self.start
        if start.init_from:
            start = replace(start, init_from=str(Path(start.init_from).resolve()))
        recipe = Recipe(self.name, self.image, self.network, self.training, self.schedule, self.autoencoder, start)
        if self.print_recipe:
            return Printed(recipe.to_json())
        if self.dry_run:
            found = dry_run(recipe)
            return found if processes().is_main_process else None
        writable(self.out)
        if recipe.data.is_folder:
            apart(self.out, Path(recipe.data.source))
        if recipe.data.is_cache:
            check_expected(recipe.data, recipe.autoencoder)
        dataset = load_dataset(recipe.data, root=self.data_root, strict=self.strict, workers=self.workers)
        images = dataset.splits.train
        if recipe.data.conditional and recipe.model.num_classes and not images.num_classes:
            warnings.warn(
                f"the recipe has {recipe.model.num_classes} classes, {recipe.data.source} none: so it learns none",
                RuntimeWarning,
                stacklevel=2,
            )
        recipe = recipe.fitted(images)
        trainer = Trainer(recipe, images, self.out, validation=dataset.splits.validation, command=self.line)
        speaks = trainer.accelerator.is_main_process
        record = DataCard.of(recipe.data.source, dataset)
        if speaks and dataset.summary is not None:
            print(f"{dataset.summary.to_text()}\n  splits    {record.to_text()}", file=sys.stderr)
        check_data_card(self.out, recipe, record)  # by every process, so that all leave
        if speaks:
            write_data_card(self.out, recipe, record, dataset)
        done = trainer.train()
        return Trained(recipe.name, self.out, done, trainer.resumed_at) if speaks else None


def _recipe(name: str, given: Given) -> Recipe:
    """The recipe with this name or in this file, for the model and the images that were given."""
    path, data = Path(name), given.get("data")
    if name in RECIPES or not name or not (path.exists() or path.suffix):
        if name == "folder" and data is None:
            data = FOLDER
        images = None if data is None else _images(_source(data), given.get("image", {}))
        return make_recipe(name, given.get("model", "fpdm"), data=images)
    if path.is_dir():
        raise ValueError(f"{name} is a folder; to train on the images in it, give it as --data {name}")
    if "model" in given:
        raise ValueError(f"--model {given['model']} is for a recipe with a name; {name} says which model")
    try:
        read = Recipe.from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is no text; expected a recipe as JSON, as --print-recipe prints it") from error
    except (ValueError, RecursionError) as error:  # the latter from brackets without end
        raise ValueError(f"{name}: {error}") from error
    return replace(read, data=replace(read.data, source=_source(read.data.source if data is None else data)))


def _images(source: str, given: Mapping[str, Any]) -> DataConfig:
    """Of a cache by default the size and the crop that its images had."""
    config = DataConfig(source, **given)
    return replace(read_manifest(source).data, source=source, **given) if config.is_cache else config


def _source(data: str) -> str:
    """A folder by its whole path, so that a run knows its images wherever it is resumed from."""
    return str(Path(data).resolve()) if data and data not in (*DATASETS, *PLACEHOLDERS, UNKNOWN) else data
