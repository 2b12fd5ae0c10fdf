"""Write the README of a run's folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from fpdm.data.dataset import Examples
from fpdm.drawing.text import fenced, markdown
from fpdm.models.cost import ModelCost
from fpdm.runs.layout import (
    CHECKPOINTS,
    LOSS_CURVE,
    METRICS,
    MODEL_INDEX,
    PIPELINE_CODE,
    RECIPE,
    SAMPLES,
    SAMPLING,
    SCHEDULER,
    TRANSFORMER,
    VALIDATION,
)
from fpdm.runs.model_card import network_in_words, usage, versions, with_front_matter
from fpdm.runs.recipe import Recipe
from fpdm.training.tracker import TENSORBOARD


def describe_run(
    recipe: Recipe,
    cost: ModelCost,
    data: Examples,
    validation: Examples | None,
    *,
    out: Path,
    classes: Sequence[str] = (),
    command: str = "",
    machine: str,
) -> str:
    """Return the README of a run as Markdown.

    Args:
        recipe: The recipe of the run.
        cost: The cost of its network.
        data: The training images.
        validation: The images of the validation loss; None for none.
        out: The run's folder, as the commands in the README name it.
        classes: Names of the classes; none if they are unknown.
        command: The command line of the run; if empty, equivalent Python is shown.
        machine: Description of the machine.
    """
    folder = shlex.quote(str(out))
    facts = {
        "Images": _images(data, validation),
        "Network": network_in_words(cost),
        "Training": _training(recipe),
        "Started from": _start(recipe),
        "Made with": f"{versions()}, {machine}",
    }
    lines = "\n".join(
        [
            f"# {markdown(recipe.name)}\n",
            "A diffusion transformer trained by fpdm.\n",
            "| | |\n|---|---|",
            *(f"| {name} | {markdown(fact)} |" for name, fact in facts.items()),
            "\n## Files\n",
            *(f"- `{name}`: {what}" for name, what in _files(recipe, validated=validation is not None).items()),
            "\n## Resume after an interruption\n",
            "The same command resumes from the newest checkpoint and ends with the weights of an uninterrupted run:\n",
            fenced(command, "sh") if command else fenced(_PYTHON.format(out=str(out)), "python"),
            "",
            *usage(str(out), classes, recipe.model.num_classes),
            *_watching(recipe, folder),
            "",
        ]
    )
    return with_front_matter(lines)


_PYTHON = """from pathlib import Path

from fpdm.data import load_dataset
from fpdm.runs import Recipe
from fpdm.training import Trainer

out = Path({out!r})
recipe = Recipe.from_json((out / "recipe.json").read_text())
images = load_dataset(recipe.data).splits
Trainer(recipe, images.train, out, validation=images.validation).train()"""


def _images(data: Examples, validation: Examples | None) -> str:
    channels, height, width = data.shape
    classes = f"{data.num_classes} classes" if data.num_classes else "no classes"
    more = f"; {len(validation)} more for the validation loss" if validation is not None else ""
    colours = "grey" if channels == 1 else f"{channels} channels"
    if data.autoencoder.source:
        size = f"latents of {channels} x {height} x {width}, by {data.autoencoder.source}"
    else:
        size = f"{height} x {width} pixels, {colours}"
    return f"{data.name}: {len(data)} of {size}, {classes}{more}"


def _training(recipe: Recipe) -> str:
    train = recipe.train
    ends = [f"{train.steps:,} steps"] if train.steps else []
    ends += [f"{train.seconds:g} seconds of training steps"] if train.seconds else []
    ends += [f"{train.macs:.3g} multiply-accumulates"] if train.macs else []
    return (
        f"{' or '.join(ends)}; {train.batch_size} images per step, gradient {train.gradient!r}, learning rate "
        f"{train.learning_rate:g}, seed {train.seed}"
    )


def _start(recipe: Recipe) -> str:
    start = recipe.start
    if not start.init_from:
        return "random weights"
    middle = "mean block" if start.init_block == "mean" else f"block {start.init_block}"
    return f"the weights of {start.init_from} (SHA-256 {start.init_sha256[:12]}; its {middle} if the depths differ)"


def _files(recipe: Recipe, *, validated: bool) -> dict[str, str]:
    train = recipe.train
    files = {
        RECIPE: "all settings of the run, as JSON",
        f"{CHECKPOINTS}/": f"the newest {train.keep} checkpoints: the averaged weights (`ema/`), used for sampling, "
        "and the raw weights (`model/`), both in diffusers' layout; the optimiser's state; a manifest with the SHA-256 "
        "of every file",
        MODEL_INDEX: "makes the folder a pipeline of diffusers, with those below",
        f"{TRANSFORMER}/": "the averaged weights of the newest checkpoint, which share its file",
        f"{SCHEDULER}/": "the noise schedule, from whose configuration any scheduler of diffusers can be made",
        SAMPLING: "how the model is sampled when nothing else is said; fpdm tune adds the best plan for a budget",
        PIPELINE_CODE: "what diffusers imports from fpdm with `trust_remote_code=True`",
        METRICS: f"JSON lines, one for every {train.log_every} steps: mean loss, mse, gradient norm and iterations, "
        "residual of the fixed point",
        LOSS_CURVE: "the loss over steps, redrawn with each checkpoint",
    }
    if validated and train.validate_every:
        files[VALIDATION] = (
            f"every {train.validate_every} steps and at the end: the loss of the averaged weights on validation "
            "images, by timestep"
        )
    if train.draws_samples:
        times = [f"every {train.sample_every} steps"] if train.sample_every else []
        times += (
            [f"after {train.sample_after:g} seconds, then whenever they have doubled"] if train.sample_after else []
        )
        files[f"{SAMPLES}/"] = (
            f"{', '.join(times)} and at the end: 16 samples of the averaged weights (left) and of the "
            "raw ones (right), from the same noise; the averaged weights lag behind early in training"
        )
    if train.tracker == TENSORBOARD:
        files[f"{TENSORBOARD}/"] = "the same figures and pictures for TensorBoard"
    return files


def _watching(recipe: Recipe, folder: str) -> list[str]:
    if recipe.train.tracker != TENSORBOARD:
        return []
    return ["\n## Watch the training\n", fenced(f"tensorboard --logdir {folder}/{TENSORBOARD}", "sh")]
