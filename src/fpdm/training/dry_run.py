"""Estimate what a training run will need before it starts: compute, memory and time."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.dataset import Examples
from fpdm.drawing.numbers import short, time_in_words, unit
from fpdm.fixed_point.gradients import JacobianFree
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.processes import processes
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.train_config import TrainConfig
from fpdm.training.memory import TrainingMemory, backward_memory, mean_draw, training_memory
from fpdm.training.trainer import Trainer

BYTES_PER_WEIGHT = 4  # weights, gradients, moments and averages are float32 in mixed precision too
MAX_STEP_SECONDS = 10.0  # measured steps are made smaller than a micro-batch if they would take longer
MEASURED_STEPS = 3
ITERATIONS = 8  # fixed-point iterations of a sampling step


@dataclass(frozen=True)
class Memory:
    """Memory of one process at its peak, in bytes.

    Attributes:
        base: The interpreter and the libraries, before there is a model; 0 on a GPU.
        weights: The network's weights.
        averages: The averaged weights.
        moments: AdamW's two moments.
        gradients: One value for each weight.
        update: What updating all averaged weights at once needs in addition, on a GPU.
        activations: What a micro-batch keeps for its backward pass, for the largest draw of n and m.
        activations_mean: The same, averaged over the draws; not part of the peak.
        recomputed: What activation checkpointing recomputes at a time, a block or an iteration.
        backward: Largest sum of activations and gradients during the backward pass.
        temporary: Twice the largest weight, while its gradient is summed or it is updated.
    """

    base: int
    weights: int
    averages: int
    moments: int
    gradients: int
    update: int
    activations: float
    activations_mean: float
    recomputed: float
    backward: float
    temporary: int

    @property
    def peak(self) -> float:
        """Memory at the peak."""
        standing = self.base + self.weights + self.averages + self.moments + self.temporary
        return standing + max(self.backward + self.recomputed, self.gradients + self.update)


@dataclass(frozen=True)
class DryRun:
    """Requirements of a recipe.

    Attributes:
        name: Name of the recipe.
        parameters: Parameters of the network.
        forward_macs: Multiply-accumulates of a forward pass per image, averaged over the draws of its iterations.
        step_macs: Multiply-accumulates of a training step over all processes, a backward pass counted as two forward
            ones.
        steps: Number of steps of the run, an estimate if it ends by compute or by the clock.
        by_clock: Whether it ends by the clock.
        processes: Number of processes.
        micro_batch: Images that a process has in memory at once.
        memory: Estimated memory of a process.
        measured_images: Images of a process in each measured step; fewer than a micro-batch where that is slow.
        measured_seconds: Seconds of a step with a whole batch, extrapolated from the measured ones by their compute.
        measured_peak: Peak memory of this process in bytes, with `measured_images` instead of a micro-batch.
        estimated_peak: The estimate for the same.
        evaluation_seconds: Seconds of one evaluation of the network when it samples one image.
        device: The device of the measurements.
    """

    name: str
    parameters: int
    forward_macs: float
    step_macs: float
    steps: int
    by_clock: bool
    processes: int
    micro_batch: int
    memory: Memory
    measured_images: int
    measured_seconds: float
    measured_peak: int
    estimated_peak: float
    evaluation_seconds: float
    device: str

    @property
    def hours(self) -> float:
        """Hours of the whole run on such machines, without validation, samples and checkpoints."""
        return self.steps * self.measured_seconds / 3600

    def to_json(self) -> str:
        """Return every field, the estimated peak and the hours as JSON."""
        sums = {"estimated_peak_of_a_process": self.memory.peak, "hours": self.hours}
        return json.dumps({**asdict(self), **sums}, indent=1)

    def to_text(self) -> str:
        """Return a table."""
        memory = self.memory
        ranks = f"{self.processes} process" + ("es" if self.processes > 1 else "")
        lines = [
            f"{self.name}: nothing was trained",
            f"  parameters           {self.parameters:,}",
            f"  forward pass         {_with_unit(self.forward_macs, 'MACs')} per image, the mean over its iterations",
            f"  training step        {_with_unit(self.step_macs, 'MACs')}; {ranks}, {self.micro_batch} images each",
            f"  steps                {f'about {self.steps:,}, by the clock' if self.by_clock else f'{self.steps:,}'}",
            f"  memory of a process  {_with_unit(memory.peak, 'B')} at its peak, estimated from",
        ]
        parts = {key.replace("_", " "): value for key, value in asdict(memory).items() if value}
        lines += [f"    {key:<19}{_with_unit(value, 'B')}" for key, value in parts.items()]
        lines += [
            f"  measured             {MEASURED_STEPS} steps of {self.measured_images} images on {self.device}: "
            f"{_with_unit(self.measured_peak, 'B')} at the peak ({_with_unit(self.estimated_peak, 'B')} estimated)",
            f"  seconds per step     {self.measured_seconds:.3g} with {ranks}",
        ]
        lines += [
            f"  the whole run        {time_in_words(self.hours * 3600)}",
            f"  sampling             {self.evaluation_seconds:.3g} s for one evaluation of one image",
        ]
        return "\n".join(lines)


class BlankImages(Examples):
    """Images that are all zero: the cost of a step does not depend on the values.

    Args:
        recipe: The recipe whose shape and classes they have.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.name, self.num_classes = "blank", recipe.model.num_classes
        self.labels = torch.zeros(recipe.train.batch_size, dtype=torch.int64)  # (N,)
        self._shape = (recipe.model.in_channels, recipe.model.image_size, recipe.model.image_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    def autoencoder(self) -> AutoencoderConfig:
        return AutoencoderConfig()

    def batch(
        self, indices: Sequence[int], draws: Sequence[np.random.Generator] | None = None, *, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(indices), *self._shape), self.labels[: len(indices)]

    def digest(self, into: hashlib._Hash) -> None:
        pass


def dry_run(recipe: Recipe) -> DryRun:
    """Count and estimate what a recipe needs, and measure a few of its steps on this machine.

    Args:
        recipe: What would be trained. Its data is not loaded.

    Raises:
        ValueError: The batch does not divide among processes and micro-batches, or the gradient iterates to a
            tolerance, so that its cost is unknown in advance.
    """
    base = psutil.Process().memory_info().rss
    count = processes().num_processes
    micro = recipe.train.micro_batch(count)
    if recipe.train.gradient == "implicit":
        raise ValueError("--dry-run cannot count the iterations of --gradient implicit, which iterates to a tolerance")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(quiet(recipe), BlankImages(recipe), Path(folder) / "run")
        time_step(trainer, 0, 1)  # allocates the moments, and lets the kernels be chosen
        single = time_step(trainer, 1, 1).seconds
        images = max(1, min(micro, 1 << int(np.log2(max(MAX_STEP_SECONDS / single, 1.0)))))
        timed = [time_step(trainer, 2 + i, images) for i in range(MEASURED_STEPS)]
    on_gpu = trainer.accelerator.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else _peak_rss()
    evaluation = _evaluation_seconds(trainer)
    kept, recomputed = _activations(trainer)
    held = backward_memory(trainer.model, recipe.schedule, trainer.objective, trainer.gradient)
    cost = trainer.cost
    draw = mean_draw(trainer.gradient, cost.middle)
    weak = None
    if trainer.weak_depth is not None:
        weak = cost.middle.weak_iterations(trainer.weak_depth, cold=0 if recipe.train.random_start else draw.all_grad)
    step_macs = recipe.train.batch_size * cost.training_macs(
        draw.iterations,
        draw.no_grad_iterations,
        weak_iterations=weak,
        exits=draw.exits if trainer.objective.exit else 0.0,
    )
    rate = sum(step.macs for step in timed) / sum(step.seconds for step in timed)  # MAC/s of one process

    def memory(images: int) -> Memory:
        weights = cost.total_parameters * BYTES_PER_WEIGHT
        return Memory(
            base=0 if on_gpu else base,
            weights=weights,
            averages=weights,
            moments=2 * weights,
            gradients=weights,
            update=weights if on_gpu else 0,
            activations=images * kept.largest,
            activations_mean=images * kept.mean,
            recomputed=images * recomputed,
            backward=max(images * moment.kept + moment.made for moment in held),
            temporary=2 * BYTES_PER_WEIGHT * max(parameter.numel() for parameter in trainer.model.parameters()),
        )

    seconds = step_macs / (rate * count)
    limited = _steps(recipe.train, step_macs)
    timed_out = max(1, math.ceil(recipe.train.seconds / seconds)) if recipe.train.seconds else math.inf
    by_clock = timed_out < limited
    steps = int(min(limited, timed_out))

    return DryRun(
        name=recipe.name,
        parameters=cost.total_parameters,
        forward_macs=cost.evaluation_macs(draw.iterations),
        step_macs=step_macs,
        steps=steps,
        by_clock=by_clock,
        processes=count,
        micro_batch=micro,
        memory=memory(micro),
        measured_images=images,
        measured_seconds=seconds,
        measured_peak=peak,
        estimated_peak=memory(images).peak,
        evaluation_seconds=evaluation,
        device=str(trainer.accelerator.device),
    )


class Step(NamedTuple):
    """A timed step: its seconds, and its multiply-accumulates in this process."""

    seconds: float
    macs: float


def quiet(recipe: Recipe) -> Recipe:
    """Return the recipe of a training that only times its steps, each told how many images it takes."""
    silent = {"validate_every": 0, "sample_every": 0, "sample_after": 0.0, "tracker": "none"}
    # The trainer refuses a batch that does not fit; here, each step is told how many images it takes.
    return replace(recipe, train=replace(recipe.train, **silent, accumulate=1, batch_size=processes().num_processes))


def time_step(trainer: Trainer, step: int, images: int) -> Step:
    """Time a step in which each process takes `images`."""
    start = time.perf_counter()
    result = trainer.step(Progress(step=step), micro_batch=images)  # ends with a number on the host: nothing is pending
    return Step(time.perf_counter() - start, result.macs / trainer.accelerator.num_processes)


def _evaluation_seconds(trainer: Trainer) -> float:
    model, device = trainer.model.eval(), trainer.accelerator.device
    x = torch.zeros(1, *trainer.data.shape, device=device)  # (1, C, H, W)
    t = torch.zeros(1, dtype=torch.int64, device=device)  # (1,)
    solver = functools.partial(solve, solver=Picard(), stop=Stop(ITERATIONS))
    seconds = []
    for _ in range(MEASURED_STEPS):
        start = time.perf_counter()
        with torch.no_grad(), trainer.accelerator.autocast():
            model(x, t, solver=solver).value.sum().item()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _activations(trainer: Trainer) -> tuple[TrainingMemory, float]:
    """Return what an image's backward pass keeps, and how much of the rest is recomputed at a time."""
    train, model = trainer.recipe.train, trainer.model

    def measured(checkpointing: Literal["none", "blocks", "iterations", "all"]) -> TrainingMemory:
        model.checkpoint_activations(checkpointing)
        with trainer.accelerator.autocast():
            return training_memory(model, trainer.recipe.schedule, trainer.objective, trainer.gradient)

    everything = measured("none")
    kept = measured(train.activation_checkpointing)  # last, so that the model is as the recipe wants it
    if train.activation_checkpointing == "none":
        return kept, 0.0
    middle, gradient = trainer.cost.middle, trainer.gradient
    assert isinstance(gradient, JacobianFree)
    most = gradient.with_grad[1] if middle.adjustable else middle.iterations.start
    pieces = (trainer.cost.explicit if train.activation_checkpointing != "iterations" else 0) + (
        most if train.activation_checkpointing != "blocks" or not middle.adjustable else 0
    )
    return kept, (everything.largest - kept.largest) / max(pieces, 1)


def _steps(train: TrainConfig, step_macs: float) -> float:
    """Return the steps after which training ends, whatever the clock says; infinity if only the clock ends it."""
    limits = [train.steps] if train.steps else []
    limits += [math.ceil(train.macs / step_macs)] if train.macs else []
    return min(limits, default=math.inf)


def _peak_rss() -> int:
    """Return the peak memory of this process in bytes, which psutil does not know on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _with_unit(value: float, name: str) -> str:
    factor, prefixed = unit([value], name)
    return f"{short(value / factor)} {prefixed}"
