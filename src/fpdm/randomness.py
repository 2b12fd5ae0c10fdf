"""Random numbers as a function of (seed, stream, step, sample index): there is no random state to save.

Philox is a counter-based generator (Salmon et al. 2011): its key and counter fix the position of every draw, so the
numbers of a sample do not depend on its batch or process. NumPy's implementation on the CPU gives the same numbers
whatever the device.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Stream(enum.IntEnum):
    """Purpose of the numbers. Each purpose has an independent sequence."""

    TRAIN = 0
    SAMPLE = 1
    VALIDATION = 2
    ORDER = 3
    RESAMPLE = 4
    LABEL = 5
    EXIT = 6
    START = 7


def generator(seed: int, stream: Stream, index: int, step: int = 0) -> np.random.Generator:
    """Create the generator of sample `index` at `step`.

    Raises:
        ValueError: `seed`, `index` or `step` is not an integer from 0 to 2^64 - 1.
    """
    for name, value in (("seed", seed), ("index", index), ("step", step)):
        if value != int(value) or not 0 <= value < 2**64:
            raise ValueError(f"{name} is {value}; expected an integer from 0 to 2^64 - 1")
    # The two low words of the counter advance with every draw; the two high words identify the step and the sample.
    counter = np.array([0, 0, step, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64), counter=counter))


def permutation(n: int, *, seed: int, index: int) -> np.ndarray:
    """Return a permutation of 0..n - 1, (n,), that depends on the seed and the index alone.

    It sorts the raw words of the bit generator, which NumPy keeps as they are; `Generator.permutation` may change.
    """
    words = generator(seed, Stream.ORDER, index).bit_generator.random_raw(n)  # (n,)
    return np.argsort(words, kind="stable")  # (n,)


def normal(
    shape: Sequence[int],
    *,
    seed: int | Sequence[int],
    stream: Stream,
    indices: Sequence[int],
    step: int | Sequence[int] = 0,
) -> Tensor:
    """Draw standard normal noise; each sample's noise depends only on its own seed and index.

    Args:
        shape: Shape of one sample, (C, H, W).
        seed: Seed of the run, or B seeds, one for each sample.
        stream: Purpose of the noise.
        indices: B global sample indices.
        step: Step that the noise is for, or B steps; 0 is the initial noise.

    Returns:
        (B, C, H, W) float32.
    """
    seeds = [seed] * len(indices) if isinstance(seed, int) else seed
    steps = [step] * len(indices) if isinstance(step, int) else step
    draws = [
        generator(own, stream, index, at).standard_normal(shape, dtype=np.float32)
        for own, index, at in zip(seeds, indices, steps, strict=True)
    ]
    return torch.from_numpy(np.stack(draws))  # (B, C, H, W)
