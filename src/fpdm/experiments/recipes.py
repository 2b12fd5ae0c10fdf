"""Recipes: functions that return complete frozen configurations."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fpdm.data import DataConfig
from fpdm.models import TransformerConfig, as_dit, preset
from fpdm.training import Recipe, TrainConfig

BLOCKS = 28  # of the small DiTs, as of DiT-XL


def digits(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """Handwritten digits of scikit-learn, 8 x 8 pixels, 10 classes: trains in minutes on a laptop."""
    shape = preset("fpdm-digits")
    return _small("digits", data or DataConfig("digits"), shape, model, TrainConfig(steps=4000, **_SMALL_TRAINING))


def fashion_mnist(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """Fashion-MNIST, 28 x 28 pixels, 10 classes, 16 tokens."""
    shape = preset("fpdm-fashion")
    train = TrainConfig(steps=20_000, **_SMALL_TRAINING)
    return _small("fashion", data or DataConfig("fashion-mnist"), shape, model, train)


def folder(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """A folder of images, about 64 tokens whatever the image size; the classes are known when it has been read."""
    if data is None or not data.is_folder:
        raise ValueError("the recipe folder needs a folder of images; name it as the data")
    path = Path(data.source).resolve()
    patches = [patch for patch in range(1, data.size + 1) if data.size % patch == 0]
    shape = replace(
        preset("fpdm-fashion"),
        image_size=data.size,
        in_channels=data.channels,
        num_classes=0,
        patch_size=min(patches, key=lambda patch: abs(data.size // patch - 8)),
    )
    train = TrainConfig(steps=10_000, **_SMALL_TRAINING)
    return _small(path.name, replace(data, source=str(path)), shape, model, train)


# N = M = 3, the best of the paper's Table 3 at equal training time; the rate suits these widths.
_SMALL_TRAINING = {
    "batch_size": 128,
    "learning_rate": 1e-3,
    "warmup": 100,
    "ema_decay": 0.999,
    "no_grad_iters": 3,
    "grad_iters": 3,
    "checkpoint_every": 500,
}


def _small(name: str, data: DataConfig, base: TransformerConfig, model: str, train: TrainConfig) -> Recipe:
    blocks = re.fullmatch(r"(dit|shared)(?:-(\d+))?", model)
    if model == "fpdm":
        network = base
    elif model == "fpdm-everywhere":
        network = replace(base, timestep_everywhere=True)
    elif model == "fpdm-elastic":
        # Mostly a single iteration, and gradient through the last one only: a step costs little more than a DiT of four
        # blocks, and the map learns to be near its answer at once.
        network = replace(base, timestep_everywhere=True, middle_blocks=2, injection="linear")
        train = replace(train, no_grad_iters=3, no_grad_weights=(0.6, 0.2, 0.1, 0.1), grad_iters=1)
    elif blocks:
        network = as_dit(base, int(blocks[2] or BLOCKS), shared=blocks[1] == "shared")
    else:
        raise ValueError(
            f"there is no model {model!r}; expected fpdm, fpdm-everywhere, fpdm-elastic, dit, or dit-N or shared-N "
            "with N blocks"
        )
    return Recipe(f"{model}-{name}", data, network, train)


RECIPES: dict[str, Callable[[str, DataConfig | None], Recipe]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "folder": folder,
}
"""The recipes by name.

Each takes "fpdm" (as published), "fpdm-everywhere" (pre, post and head see the timestep too), "fpdm-elastic" (that,
with a cell of two blocks behind a linear injection), "dit" (28 blocks), "dit-N", or "shared-N" (one block applied N - 2
times between pre and post).
"""


def recipe(name: str, model: str = "fpdm", *, data: DataConfig | None = None, **changes: object) -> Recipe:
    """The recipe with this name, with other images and some fields of its training changed.

    Raises:
        ValueError: No such recipe (the nearest is named) or model, or a value outside its range.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}{hint}")
    found = RECIPES[name](model, data)
    return replace(found, train=replace(found.train, **changes))  # type: ignore[arg-type]
