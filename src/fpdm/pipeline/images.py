"""Which images a call of a pipeline makes: their indices, labels and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fpdm.data.labels import balanced_labels, class_label


class Images(NamedTuple):
    """The images of a call.

    Attributes:
        indices: Index of each image among those of its seed.
        labels: Label of each image.
    """

    indices: list[int]
    labels: list[int]


def choose_images(
    class_labels: Any,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    num_images: int | None,
    indices: Iterable[int] | None,
    *,
    classes: Sequence[str],
    num_classes: int,
) -> Images:
    """Return the images that the arguments of a call describe.

    Args:
        class_labels: Class of each image, by name or number; one by itself is that of all images. None takes the
            classes in turn by the images' indices, as fpdm sample does.
        generator: One generator for all images, or one for each, which gives image 0 of its seed.
        num_images: Number of images.
        indices: Index of each image.
        classes: Names of the model's classes; none if they are unknown.
        num_classes: Number of the model's classes.

    Raises:
        ValueError: There is no such class, the arguments disagree about the number of images, or it is not positive.
    """
    several = _are_several(generator)
    _check_generators(generator)
    labels, chosen = _listed(class_labels), None if indices is None else [_integer(one, "indices") for one in indices]
    counts = {
        "class_labels": len(labels) if labels is not None else None,
        "generator": len(generator) if several else None,  # type: ignore[arg-type]
        "indices": None if chosen is None else len(chosen),
        "num_images": None if num_images is None else _integer(num_images, "num_images"),
    }
    known = {name: count for name, count in counts.items() if count is not None}
    if len({*known.values()}) > 1:
        said = ", ".join(f"{name} says {count}" for name, count in known.items())
        raise ValueError(f"the number of images is not clear ({said}); expected the same number everywhere")
    count = next(iter(known.values()), 1)
    if count < 1:
        raise ValueError(f"the number of images is {count}; expected at least 1")
    if several and chosen is not None:
        raise ValueError(
            "indices are given with several generators, each of which gives image 0 of its seed; expected one "
            "generator or a seed"
        )
    where = [0] * count if several else list(range(count)) if chosen is None else chosen
    if labels is None and class_labels is not None:
        labels = [class_labels] * count
    if labels is None:
        return Images(where, balanced_labels(range(count) if several else where, num_classes))
    return Images(where, [find_label(one, classes, num_classes) for one in labels])


def find_label(given: Any, classes: Sequence[str], num_classes: int) -> int:
    """Return the label of a class that is given by its name or number.

    Raises:
        ValueError: There is no such class.
    """
    name = given if isinstance(given, str) else str(_integer(given, "class_labels"))
    return class_label(name, classes if isinstance(given, str) else (), num_classes)


def draw_seeds(
    generator: torch.Generator | Sequence[torch.Generator] | None, seed: int | None, count: int
) -> list[int]:
    """Return the seed of each image.

    Args:
        generator: One generator for all images, or one for each. One from which nothing was drawn yet gives its own
            seed, and is advanced, so that the next call gets another; None uses PyTorch's own.
        seed: A seed instead.
        count: Number of images.

    Raises:
        ValueError: Both are given, or there is no such seed.
    """
    _check_generators(generator)
    if seed is not None:
        if generator is not None:
            raise ValueError("seed and generator are both given; expected only one")
        return [_integer(seed, "seed")] * count
    if _are_several(generator):
        return [_next_seed(one) for one in generator]  # type: ignore[union-attr]
    return [_draw(None) if generator is None else _next_seed(generator)] * count  # type: ignore[arg-type]


def _listed(class_labels: Any) -> list[Any] | None:
    """Return a sequence of labels as a list; None for nothing or for a single one."""
    if isinstance(class_labels, (Tensor, np.ndarray)):
        if class_labels.ndim > 1:
            raise ValueError(f"class_labels has the shape {tuple(class_labels.shape)}; expected one label per image")
        return class_labels.tolist() if class_labels.ndim else None
    return list(class_labels) if isinstance(class_labels, Iterable) and not isinstance(class_labels, str) else None


def _are_several(generator: Any) -> bool:
    return generator is not None and not isinstance(generator, torch.Generator)


def _check_generators(generator: Any) -> None:
    """Raise a `ValueError` for what is neither a generator nor several."""
    given = generator if isinstance(generator, (list, tuple)) else [] if generator is None else [generator]
    for one in given:
        if not isinstance(one, torch.Generator):
            raise ValueError(
                f"generator is {generator!r}; expected a torch.Generator, or a list with one for each image; "
                "seed=0 does without"
            )


def _integer(value: Any, name: str) -> int:
    is_scalar = isinstance(value, (Tensor, np.ndarray, np.generic)) and value.ndim == 0
    number = value.item() if is_scalar else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{name} has {value!r}; expected {'names or ' if name == 'class_labels' else ''}integers")
    return number


def _next_seed(generator: torch.Generator) -> int:
    """Return the seed of a generator from which nothing was drawn, else a number drawn from it; draw one either way."""
    fresh = torch.Generator(generator.device).manual_seed(generator.initial_seed()).get_state()  # (bytes,)
    is_fresh = torch.equal(generator.get_state(), fresh)
    drawn = _draw(generator)
    return generator.initial_seed() if is_fresh else drawn


def _draw(generator: torch.Generator | None) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))
