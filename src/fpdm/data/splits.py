"""The split of a data set into train, validation and test parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from fpdm.data.dataset import Examples
from fpdm.data.images import ImageSet
from fpdm.randomness import permutation

E = TypeVar("E", bound=Examples)
SPLITS = ("train", "validation", "test")
# What `stratified` chooses is a function of these and the labels alone.
_SPLIT_SEED = 1797
_SPLIT_SHARES = {"train": 0.60, "validation": 0.15}


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
        train = max(1, min(round(_SPLIT_SHARES["train"] * len(members)), len(members) - 2))
        validation = train + max(1, round(_SPLIT_SHARES["validation"] * len(members)))
        start, stop = {"train": (0, train), "validation": (train, validation), "test": (validation, None)}[split]
        chosen += members[start:stop].tolist()
    return sorted(chosen)


@dataclass(frozen=True, eq=False)
class Splits(Generic[E]):
    """The three parts of a data set, which share no images. Validation and test may be empty in a cache."""

    train: E
    validation: E
    test: E


def split_folder(data: ImageSet, places: Mapping[str, Sequence[int]] | None = None) -> Splits[ImageSet]:
    """Divide images into train, validation and test.

    Args:
        data: The images.
        places: The indices of each split; by default as `stratified` chooses them.

    Raises:
        ValueError: A class has fewer than 3 images or none to train on, or a split is empty.
    """
    labels = data.labels.numpy()  # (N,)
    places = places or {split: stratified(labels, split) for split in SPLITS}
    members = np.bincount(labels, minlength=data.num_classes or 1)  # (K,)
    trained = np.bincount(labels[places["train"]], minlength=len(members))  # (K,)
    for label in np.flatnonzero((members < len(SPLITS)) | (trained == 0)).tolist()[:1]:
        whose = f"class {label} of {data.name!r}" if data.num_classes else repr(data.name)
        none = ", none of them to train on" if members[label] >= len(SPLITS) else ""
        raise ValueError(
            f"{whose} has {counted(int(members[label]), 'image')}{none}; expected {len(SPLITS)} or more, one each for "
            f"{', '.join(SPLITS)}; add images" + (" or remove the class" if data.num_classes else "")
        )
    for split in SPLITS:
        if not places[split]:
            raise ValueError(f"no image of the {split} split of {data.name!r} can be read; add images")
    parts = (places[split] for split in SPLITS)
    return Splits(*(ImageSet(data.name, data.images[part], data.labels[part], data.num_classes) for part in parts))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
