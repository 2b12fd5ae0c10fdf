"""The order of training images, as a function of the seed and the position in the run: there is no state to save."""

from __future__ import annotations

import functools

import numpy as np

from fpdm.randomness import permutation


def indices(n: int, *, seed: int, first: int, count: int) -> list[int]:
    """Return the data set indices of the samples at global positions first .. first + count - 1.

    Position p lies in epoch p // n, and every epoch is a permutation of its own.

    Args:
        n: Number of images in the data set.
        seed: The run's seed.
        first: The first position, counted from the start of the run.
        count: Number of positions; may span epochs.

    Raises:
        ValueError: `n` is below 1, or `first` or `count` below 0.
    """
    for name, value, least in (("n", n, 1), ("first", first, 0), ("count", count, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; expected {least} or more")
    chosen: list[int] = []
    position = first
    while position < first + count:
        epoch, start = divmod(position, n)
        stop = min(n, start + first + count - position)
        chosen += _epoch(n, seed, epoch)[start:stop].tolist()
        position += stop - start
    return chosen


@functools.lru_cache(maxsize=4)
def _epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    return permutation(n, seed=seed, index=epoch)  # (n,)
