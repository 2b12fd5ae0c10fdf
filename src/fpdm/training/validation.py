"""Measure the loss by timestep on images that are not trained on, with the same images and noise for every model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from fpdm.data.dataset import Examples
from fpdm.data.index_sampler import indices
from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.transformer import DiffusionTransformer
from fpdm.progress_bar import track
from fpdm.randomness import Stream, normal


class LossAt(NamedTuple):
    """Mean loss over images at one timestep."""

    timestep: int
    loss: float


def evaluate_loss(
    model: DiffusionTransformer,
    schedule: Schedule,
    objective: Objective,
    data: Examples,
    *,
    timesteps: Sequence[int] | None = None,
    images: int = 256,
    iterations: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> list[LossAt]:
    """Measure the loss by timestep, with the images' own labels and no guidance.

    The choice of images, and the noise of each image at each timestep, are a function of the seed.

    Args:
        model: The network, on any device; usually with averaged weights.
        schedule: The noise schedule of the network.
        objective: The loss.
        data: The images; all are used if there are fewer than `images`.
        timesteps: Timesteps to measure at; None for the middles of ten equal intervals, whose mean approximates the
            mean over all timesteps.
        images: Number of images.
        iterations: Fixed-point iterations, if their number can be chosen; None for as many as in training.
        seed: Seed of the choice of images and of the noise.
        batch_size: Images at once; affects speed and memory only.

    Returns:
        One row for each timestep, in the order given.

    Raises:
        ValueError: A timestep is outside the schedule, or a number is below 1.
    """
    for name, value in (("images", images), ("iterations", iterations), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    timesteps = middles(schedule) if timesteps is None else timesteps
    for t in timesteps:
        if not 0 <= t < schedule.num_timesteps:
            raise ValueError(f"timestep {t} is out of range; expected 0 to {schedule.num_timesteps - 1}")
    solver = None if iterations is None else functools.partial(solve, solver=Picard(), stop=Stop(iterations))
    device = next(model.parameters()).device
    places = indices(len(data), seed=seed, first=0, count=min(images, len(data)))
    sums = dict.fromkeys(timesteps, 0.0)
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
    for batch in track(batches, "measuring the loss", unit="batches", inner=True):
        x0, y = (tensor.to(device) for tensor in data.batch(batch))  # (B, C, H, W), (B,)
        y = y if model.shape.num_classes else torch.zeros_like(y)  # (B,)
        for timestep in track(sums, "timesteps", inner=True):
            eps = normal(data.shape, seed=seed, stream=Stream.VALIDATION, indices=batch, step=timestep)
            eps = eps.to(device)  # (B, C, H, W)
            t = torch.full((len(batch),), timestep, device=device)  # (B,)
            x = schedule.add_noise(x0, eps, t)  # (B, C, H, W)
            with torch.no_grad():
                prediction = model(x, t, y, solver=solver)
            loss = objective.loss(schedule, prediction.value, prediction.variance, x, x0, eps, t)
            sums[timestep] += loss.total.sum().item()
    return [LossAt(timestep, sums[timestep] / len(places)) for timestep in timesteps]


def middles(schedule: Schedule, count: int = 10) -> list[int]:
    """Return the middles of `count` equal intervals of the schedule, the least noisy first."""
    count = min(count, schedule.num_timesteps)
    return [(2 * k + 1) * schedule.num_timesteps // (2 * count) for k in range(count)]
