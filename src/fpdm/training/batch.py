"""Make the training data of a step, a function of the seed and the position in the run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fpdm.data.dataset import Examples
from fpdm.data.index_sampler import indices
from fpdm.diffusion.schedule import Schedule
from fpdm.randomness import Stream, generator


class Batch(NamedTuple):
    """The training data of a micro-batch.

    Attributes:
        x0: Clean images in [-1, 1], or latents, (B, C, H, W).
        eps: Noise, (B, C, H, W).
        t: Timesteps, (B,).
        y: Labels, some of them "no class", (B,).
    """

    x0: Tensor
    eps: Tensor
    t: Tensor
    y: Tensor


def make_batch(
    data: Examples,
    *,
    seed: int,
    first: int,
    count: int,
    schedule: Schedule,
    num_classes: int,
    label_dropout: float,
    flip: bool = False,
) -> Batch:
    """Make the training data of the global positions `first` .. `first + count - 1`.

    The image, timestep, noise, label, flip and latent of a position are a function of (seed, position). They do not
    depend on the batch size, the micro-batches, the number of processes, or where the run was resumed.
    """
    draws = [generator(seed, Stream.TRAIN, first + i) for i in range(count)]
    t, drop, eps = np.empty(count, np.int64), np.empty(count), np.empty((count, *data.shape), np.float32)
    for i, rng in enumerate(draws):
        t[i], drop[i] = rng.integers(schedule.num_timesteps), rng.random()
        rng.standard_normal(out=eps[i], dtype=np.float32)
    places = indices(len(data), seed=seed, first=first, count=count)
    x0, y = data.batch(places, draws, flip=flip)  # (B, C, H, W), (B,)
    dropped = torch.from_numpy(drop < label_dropout)  # (B,)
    y = torch.where(dropped, num_classes, y) if num_classes else torch.zeros_like(y)  # (B,)
    return Batch(x0, torch.from_numpy(eps), torch.from_numpy(t), y)
