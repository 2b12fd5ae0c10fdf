"""Recipes: functions that return complete frozen configurations."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from fpdm.models import TransformerConfig, as_dit, preset
from fpdm.training import Recipe, TrainConfig

BLOCKS = 28  # of the small DiTs, as of DiT-XL


def digits(model: str = "fpdm") -> Recipe:
    """Handwritten digits of scikit-learn, 8 x 8 pixels, 10 classes: trains in minutes on a laptop."""
    return _small("digits", "digits", model, TrainConfig(steps=4000, **_SMALL_TRAINING))


def fashion_mnist(model: str = "fpdm") -> Recipe:
    """Fashion-MNIST, 28 x 28 pixels, 10 classes, 16 tokens."""
    return _small("fashion-mnist", "fashion", model, TrainConfig(steps=20_000, **_SMALL_TRAINING))


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


def _small(data: str, shape: str, model: str, train: TrainConfig) -> Recipe:
    base: TransformerConfig = preset(f"fpdm-{shape}")
    makers: dict[str, Callable[[], TransformerConfig]] = {"fpdm": lambda: base, "dit": lambda: as_dit(base, BLOCKS)}
    if model not in makers:
        raise ValueError(f"there is no model {model!r} in the recipe {data}; expected one of {', '.join(makers)}")
    return Recipe(f"{model}-{shape}", data, makers[model](), train)


RECIPES: dict[str, Callable[[str], Recipe]] = {"digits": digits, "fashion-mnist": fashion_mnist}
"""The recipes by name; each takes "fpdm" or "dit"."""


def recipe(name: str, model: str = "fpdm", **changes: object) -> Recipe:
    """The recipe with this name, with some fields of its training changed.

    Raises:
        ValueError: No such recipe (the nearest is named) or model, or a value outside its range.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}{hint}")
    found = RECIPES[name](model)
    return replace(found, train=replace(found.train, **changes))  # type: ignore[arg-type]
