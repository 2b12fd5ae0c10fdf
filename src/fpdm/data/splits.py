"""The split of a data set into train, validation and test parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from fpdm.data.config import LEAST_SHARE, SPLIT_SHARES
from fpdm.data.dataset import Examples
from fpdm.data.decode import escaped
from fpdm.data.images import ImageSet
from fpdm.randomness import permutation

E = TypeVar("E", bound=Examples)
SPLITS = ("train", "validation", "test")
# What `stratified` chooses is a function of these and the labels alone.
_SPLIT_SEED = 1797


def stratified(labels: np.ndarray, split: str) -> list[int]:
    """Return the indices of one split in ascending order: of each class 60 % train, 15 % validation, 25 % test.

    The same labels always give the same splits. A class of 3 images or more has at least one in each split.

    Args:
        labels: (N,) integers from 0.
        split: "train", "validation" or "test".
    """
    chosen: list[int] = []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)  # (n,)
        members = members[permutation(len(members), seed=_SPLIT_SEED, index=label)]  # (n,)
        train = max(1, min(round(SPLIT_SHARES["train"] * len(members)), len(members) - 2))
        validation = train + max(1, round(SPLIT_SHARES["validation"] * len(members)))
        start, stop = {"train": (0, train), "validation": (train, validation), "test": (validation, None)}[split]
        chosen += members[start:stop].tolist()
    return sorted(chosen)


def divided(labels: np.ndarray) -> dict[str, list[int]]:
    """Return the indices of each split as `stratified` chooses them.

    If classes are so small that a split would have less than half of its share, all are divided as one class.

    Args:
        labels: (N,) integers from 0.
    """
    parts = {split: stratified(labels, split) for split in SPLITS}
    if all(len(parts[split]) >= LEAST_SHARE * SPLIT_SHARES[split] * len(labels) for split in SPLITS):
        return parts
    return {split: stratified(np.zeros_like(labels), split) for split in SPLITS}


@dataclass(frozen=True, eq=False)
class Splits(Generic[E]):
    """The three parts of a data set, which share no images. Validation and test may be empty in a cache."""

    train: E
    validation: E
    test: E


class SmallClassesError(ValueError):
    """Raised for classes with too few images to be learned."""


def split_folder(
    data: ImageSet,
    places: Mapping[str, Sequence[int]] | None = None,
    *,
    names: Sequence[str] = (),
    conditional: bool = True,
) -> Splits[ImageSet]:
    """Divide images into train, validation and test.

    Args:
        data: The images.
        places: The indices of each split; by default as `divided` chooses them.
        names: Class names in the order of their labels, for messages; by default their numbers.
        conditional: Whether the classes are to be learned, so that none may be too small.

    Raises:
        ValueError: There are fewer than 3 images, or a split is empty.
        SmallClassesError: A class to be learned has fewer than 3 images or none to train on.
    """
    labels = data.labels.numpy()  # (N,)
    places = places or divided(labels)
    if len(data) < len(SPLITS):
        raise ValueError(
            f"{data.name!r} has {counted(len(data), 'image')}; expected {len(SPLITS)} or more, one each for "
            f"{', '.join(SPLITS)}; add images"
        )
    if conditional and data.num_classes:
        named = names or [str(label) for label in range(data.num_classes)]
        members = np.bincount(labels, minlength=data.num_classes)  # (K,)
        small = [f"{named[label]} ({members[label]})" for label in np.flatnonzero(members < len(SPLITS)).tolist()]
        if small:
            raise SmallClassesError(
                f"{data.name!r} has fewer than {len(SPLITS)} images of {counted(len(small), 'class')}: "
                f"{listed(small)}; add images, remove the class, or give --no-conditional"
            )
        check_trained(data.labels[places["train"]], named, repr(data.name))
    for split in SPLITS:
        if not places[split]:
            raise ValueError(f"no image of the {split} split of {data.name!r} can be read; add images")
    parts = (places[split] for split in SPLITS)
    return Splits(*(ImageSet(data.name, data.images[part], data.labels[part], data.num_classes) for part in parts))


def check_trained(labels: Tensor, names: Sequence[str], source: str) -> None:
    """Check that each class has an image to train on, without which a model would know nothing of it.

    Args:
        labels: (N,) int64, of the images to train on.
        names: Class names in the order of their labels.
        source: Where the images are from, for the message.

    Raises:
        ValueError: A class has none.
    """
    trained = labels.bincount(minlength=len(names)).tolist()  # K
    without = [name for name, images in zip(names, trained, strict=True) if not images]
    if without:
        raise SmallClassesError(
            f"{source} has no image to train on of {counted(len(without), 'class')}: {listed(without)}; add images, "
            "remove the class, or give --no-conditional"
        )


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of some names, escaped, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(escaped, names[:most])) + more


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"
