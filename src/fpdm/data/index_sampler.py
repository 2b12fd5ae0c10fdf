"""Which image stands where in a run: a function of (seed, position), so that there is no sampler's state to save."""

from __future__ import annotations

import functools

import numpy as np

from fpdm.randomness import Stream, generator


def indices(n: int, *, seed: int, first: int, count: int) -> list[int]:
    """The places in a data set of the samples at global positions first .. first + count - 1.

    Position p lies in epoch p // n, and each epoch goes through a permutation of its own.

    Args:
        n: Images in the data set.
        seed: The run's seed.
        first: The first position, counted from the run's start.
        count: How many positions; may span epochs.

    Raises:
        ValueError: `n` below 1, or `first` or `count` below 0.
    """
    for name, value, least in (("n", n, 1), ("first", first, 0), ("count", count, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; expected {least} or more")
    chosen: list[int] = []
    position = first
    while position < first + count:
        epoch, start = divmod(position, n)
        stop = min(n, start + first + count - position)
        chosen += _permutation(n, seed, epoch)[start:stop].tolist()
        position += stop - start
    return chosen


@functools.lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, Stream.ORDER, index=epoch).permutation(n)  # (n,)
