"""Start a run from the weights of another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fpdm.models.transformer import DiffusionTransformer
from fpdm.models.warm_start import start_from
from fpdm.runs.layout import CHECKPOINTS, CONFIG, MODEL_INDEX, TRANSFORMER, WEIGHTS
from fpdm.runs.pipeline_files import read_index, read_network
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import load_run
from fpdm.runs.train_config import WarmStart


def known_start(start: WarmStart, before: WarmStart) -> WarmStart:
    """Complete the start of a run that is resumed, which has its own weights, with the hash of those that it names.

    Args:
        start: What is asked for now. Its weights are read only if they are in another place than before.
        before: What the run started from.

    Raises:
        ValueError: There are no weights in the other place.
        CheckpointError: They are damaged.
    """
    if not (start.init_from and before.init_from) or start.init_sha256:
        return start
    if start.init_from == before.init_from:
        return replace(start, init_sha256=before.init_sha256)
    try:
        return replace(start, init_sha256=load_initial_model(Path(start.init_from)).sha256)
    except ValueError as error:
        raise ValueError(f"{error}; the run was started from {before.init_from}") from error


class InitialModel(NamedTuple):
    """A model to start from.

    Attributes:
        model: The network.
        sha256: SHA-256 of the file with its weights.
        prediction: What it predicts, as in `Schedule.prediction`; empty if unknown.
    """

    model: DiffusionTransformer
    sha256: str
    prediction: str


def warm_start(model: DiffusionTransformer, recipe: Recipe) -> Recipe:
    """Initialise a new model with the weights that the recipe names, if it names any.

    Args:
        model: A model of the recipe's shape.
        recipe: What will be trained.

    Returns:
        The recipe, with the hash of those weights.

    Raises:
        ValueError: There are no such weights, their hash is not the recipe's, or they do not fit.
        CheckpointError: The weights are damaged.
    """
    start = recipe.start
    if not start.init_from:
        return recipe
    source = load_initial_model(Path(start.init_from))
    if start.init_sha256 not in ("", source.sha256):
        raise ValueError(
            f"the weights in {start.init_from} have SHA-256 {source.sha256[:12]}; expected "
            f"{start.init_sha256[:12]}, as the recipe says; give the model that the recipe was made with"
        )
    if source.prediction not in ("", recipe.schedule.prediction):
        needed = {"v": "--prediction v", "epsilon": "--prediction epsilon --no-zero-terminal-snr"}
        raise ValueError(
            f"the model in {start.init_from} predicts {source.prediction}; expected "
            f"{recipe.schedule.prediction}, as the recipe says; give {needed[source.prediction]}"
        )
    start_from(model, source.model, None if start.init_block == "mean" else int(start.init_block))
    return replace(recipe, start=replace(start, init_sha256=source.sha256))


def load_initial_model(folder: Path) -> InitialModel:
    """Load the averaged weights of a run, or a model in the hub's layout.

    Raises:
        ValueError: The folder holds neither.
        CheckpointError: The weights are damaged.
    """
    if (folder / CHECKPOINTS).is_dir():
        run = load_run(folder)
        return InitialModel(run.model, run.weights, run.recipe.schedule.prediction)
    if not (folder / CONFIG).is_file() and not (folder / TRANSFORMER / CONFIG).is_file():
        raise ValueError(
            f"init_from is {folder}; expected a run, or a folder with a {CONFIG} and a {WEIGHTS}; convert a foreign "
            "checkpoint with fpdm import"
        )
    network = read_network(folder)
    prediction = read_index(folder).schedule.prediction if (folder / MODEL_INDEX).exists() else ""
    return InitialModel(network.model, network.sha256, prediction)
