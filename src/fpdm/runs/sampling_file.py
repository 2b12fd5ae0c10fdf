"""Read and write the `sampling.json` beside a model, which says how it is sampled when nothing else is said."""

from __future__ import annotations

from pathlib import Path

from fpdm.files import read_dataclass, write_json
from fpdm.models.cost import model_cost
from fpdm.runs.layout import SAMPLING
from fpdm.runs.recipe import Recipe
from fpdm.sampling.defaults import SamplingDefaults
from fpdm.sampling.plan import DEFAULT_BUDGET, DEFAULT_ITERATIONS, Plan


def untuned(recipe: Recipe) -> SamplingDefaults:
    """Return the defaults that suit how a model was trained.

    A linear injection does best without reuse, and a model whose training never reaches 5 iterations with their mean;
    results/fashion-mnist and results/warm-start have the searches.
    """
    train, model = recipe.train, recipe.model
    if not model_cost(model).middle.adjustable:
        return SamplingDefaults()
    known = train.mean_iterations if train.most_iterations < DEFAULT_ITERATIONS else DEFAULT_ITERATIONS
    return SamplingDefaults(Plan(DEFAULT_BUDGET, iterations=known, reuse=model.injection != "linear"))


def read_sampling(folder: Path | None, recipe: Recipe) -> SamplingDefaults:
    """Read the defaults beside a model; a model of an earlier version has those of its training.

    Args:
        folder: Folder of the model; None if it is in memory only.
        recipe: Its recipe.

    Raises:
        ValueError: The file is damaged; the message begins with its path.
    """
    try:
        return untuned(recipe) if folder is None else read_dataclass(folder / SAMPLING, SamplingDefaults)
    except FileNotFoundError:
        return untuned(recipe)


def write_sampling(folder: Path, defaults: SamplingDefaults) -> None:
    """Write the defaults beside a model."""
    write_json(folder / SAMPLING, defaults.to_json())


def keep_sampling(folder: Path, recipe: Recipe) -> None:
    """Write the defaults that suit a model's training beside it, unless there are some already."""
    if not (folder / SAMPLING).exists():
        write_sampling(folder, untuned(recipe))
