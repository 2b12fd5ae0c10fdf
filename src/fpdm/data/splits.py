"""The split of a data set into train, validation and test parts."""

from __future__ import annotations

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
    """The places of one split, in order: of each class 60 % train, 15 % validation, 25 % test.

    A class of 3 images or more has at least one in each split.

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
    """The three parts of a data set; none shares an image with another. Those of a cache may be empty."""

    train: E
    validation: E
    test: E


def split_folder(data: ImageSet) -> Splits[ImageSet]:
    """Divide each class as the digits are divided: 60 % train, 15 % validation, 25 % test, one image of each at least.

    The same images in the same order are divided alike for ever: no seed.

    Raises:
        ValueError: A class has fewer than 3 images, so that a part would go without.
    """
    labels = data.labels.numpy()  # (N,)
    for label in range(max(data.num_classes, 1)):
        members = int((labels == label).sum())
        if members < len(SPLITS):
            whose = f"class {label} of {data.name!r}" if data.num_classes else repr(data.name)
            raise ValueError(
                f"{whose} has {counted(members, 'image')}; expected {len(SPLITS)} or more, one each for "
                f"{', '.join(SPLITS)}; add images" + (" or take the class away" if data.num_classes else "")
            )

    def part(split: str) -> ImageSet:
        chosen = stratified(labels, split)
        return ImageSet(data.name, data.images[chosen], data.labels[chosen], data.num_classes)

    return Splits(*map(part, SPLITS))


def counted(number: int, noun: str) -> str:
    """A number with its noun in the singular or the plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
