"""What a training run will need, before it is begun: counted, estimated, and measured over a few steps."""

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
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.dataset import Examples
from fpdm.drawing.numbers import short, unit
from fpdm.fixed_point.gradients import JacobianFree
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.processes import processes
from fpdm.runs.recipe import Recipe
from fpdm.training.memory import TrainingMemory, backward_memory, mean_draw, training_memory
from fpdm.training.trainer import Trainer

FLOAT = 4  # bytes: weights, gradients, moments and averages are float32 in mixed precision too
LONG = 10.0  # seconds that a measured step may take
STEPS = 3
ITERATIONS = 8  # of a sampling step


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at its peak.

    Attributes:
        base: What it has before there is a model: the interpreter and the libraries. None of it on a GPU.
        weights: Of the network.
        averages: Of the averaged weights.
        moments: AdamW's two.
        gradients: One for each weight.
        update: What AdamW needs besides while it updates all weights at once, on a GPU.
        activations: What a micro-batch keeps for its backward pass, in the largest of the draws of n and m.
        activations_mean: The same in the mean over the draws; not in the peak.
        recomputed: What of it is there again, a block or an iteration at a time, with activation checkpointing.
        backward: Activations and gradients that are there at once, at most, while these are made of those.
        temporary: Twice the largest weight, while its gradient is summed up or it is updated.
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
        """All that is there at once."""
        standing = self.base + self.weights + self.averages + self.moments + self.temporary
        return standing + max(self.backward + self.recomputed, self.gradients + self.update)


@dataclass(frozen=True)
class DryRun:
    """What a recipe will need.

    Attributes:
        name: The recipe's.
        parameters: Of the network.
        forward_macs: Multiply-accumulates of a forward pass per image, the iterations' mean over their draws.
        step_macs: Of a training step over all processes, a backward pass counted as two forward ones.
        steps: That the recipe comes to, in the mean where it ends by compute; None where it ends by the clock.
        processes: That this was asked for.
        micro_batch: Images that a process has in memory at once.
        memory: Of a process, estimated.
        measured_images: Images in each measured step; of a process, and fewer than a micro-batch where that is slow.
        measured_seconds: Of a step with a whole batch, from the measured ones by their compute.
        measured_peak: Bytes that this process had at most, with `measured_images` instead of a micro-batch.
        estimated_peak: What the estimate says of those.
        evaluation_seconds: Of one evaluation of the network when it samples one image.
        device: Where it was measured.
    """

    name: str
    parameters: int
    forward_macs: float
    step_macs: float
    steps: int | None
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
    def hours(self) -> float | None:
        """Of the whole run on such machines, without what is shown and saved on the way."""
        return None if self.steps is None else self.steps * self.measured_seconds / 3600

    def to_json(self) -> str:
        """Every field, and the two sums."""
        sums = {"estimated_peak_of_a_process": self.memory.peak, "hours": self.hours}
        return json.dumps({**asdict(self), **sums}, indent=1)

    def to_text(self) -> str:
        """A table."""
        memory = self.memory
        ranks = f"{self.processes} process" + ("es" if self.processes > 1 else "")
        lines = [
            f"{self.name}: nothing was trained",
            f"  parameters           {self.parameters:,}",
            f"  forward pass         {_with_unit(self.forward_macs, 'MACs')} per image, the mean over its iterations",
            f"  training step        {_with_unit(self.step_macs, 'MACs')}; {ranks}, {self.micro_batch} images each",
            f"  steps                {'by the clock' if self.steps is None else f'{self.steps:,}'}",
            f"  memory of a process  {_with_unit(memory.peak, 'B')} at its peak, estimated from",
        ]
        parts = {key.replace("_", " "): value for key, value in asdict(memory).items() if value}
        lines += [f"    {key:<19}{_with_unit(value, 'B')}" for key, value in parts.items()]
        lines += [
            f"  measured             {STEPS} steps of {self.measured_images} images on {self.device}: "
            f"{_with_unit(self.measured_peak, 'B')} at the peak ({_with_unit(self.estimated_peak, 'B')} estimated)",
            f"  seconds per step     {self.measured_seconds:.3g} with {ranks}",
        ]
        if self.hours is not None:
            lines.append(f"  the whole run        {self.hours:,.1f} hours")
        lines.append(f"  sampling             {self.evaluation_seconds:.3g} s for one evaluation of one image")
        return "\n".join(lines)


class Nothing(Examples):
    """Examples that are all zero: what a step costs does not depend on the values.

    Args:
        recipe: Whose shape and classes they have.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.name, self.num_classes = "nothing", recipe.model.num_classes
        self.labels = torch.zeros(recipe.train.batch_size, dtype=torch.int64)  # (N,)
        self._shape = (recipe.model.in_channels, recipe.model.image_size, recipe.model.image_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the recipe's model."""
        return self._shape

    @property
    def autoencoder(self) -> AutoencoderConfig:
        """None: nothing is decoded."""
        return AutoencoderConfig()

    def batch(
        self, indices: Sequence[int], draws: Sequence[np.random.Generator] | None = None, *, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Zeros (B, C, H, W) and labels (B,)."""
        return torch.zeros(len(indices), *self._shape), self.labels[: len(indices)]

    def digest(self, into: hashlib._Hash) -> None:
        """Nothing to add."""


def dry_run(recipe: Recipe) -> DryRun:
    """Count and estimate what a recipe needs, and measure a few of its steps on this machine.

    Args:
        recipe: What would be trained. Its data is not looked at.

    Raises:
        ValueError: The batch does not fit the processes and micro-batches, or the gradient iterates to a tolerance, so
            that nobody knows beforehand what it costs.
    """
    base = _resident()
    count = processes().num_processes
    micro = recipe.train.micro_batch(count)
    if recipe.train.gradient == "implicit":
        raise ValueError("--dry-run cannot count the iterations of --gradient implicit, which iterates to a tolerance")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(_of_batch(recipe, count), Nothing(recipe), Path(folder) / "run")
        _timed(trainer)  # makes the moments, and lets the kernels be chosen
        seconds = _timed(trainer).seconds
        images = max(1, min(micro, 1 << int(np.log2(max(LONG / seconds, 1.0)))))
        trainer.recipe = _of_batch(recipe, images * count)
        timed = [_timed(trainer) for _ in range(STEPS)]
    on_gpu = trainer.accelerator.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else _largest_resident()
    evaluation = _evaluation_seconds(trainer)
    kept, recomputed = _activations(trainer)
    held = backward_memory(trainer.model, recipe.schedule, trainer.objective, trainer.gradient)
    cost = trainer.cost
    draw = mean_draw(trainer.gradient, cost.middle)
    step_macs = recipe.train.batch_size * cost.training_macs(draw.iterations, draw.no_grad_iterations)
    rate = sum(step.macs for step in timed) / sum(step.seconds for step in timed)  # MAC/s of one process

    def memory(images: int) -> Memory:
        weights = cost.total_parameters * FLOAT
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
            temporary=2 * FLOAT * max(parameter.numel() for parameter in trainer.model.parameters()),
        )

    return DryRun(
        name=recipe.name,
        parameters=cost.total_parameters,
        forward_macs=cost.evaluation_macs(draw.iterations),
        step_macs=step_macs,
        steps=_steps(recipe, step_macs),
        processes=count,
        micro_batch=micro,
        memory=memory(micro),
        measured_images=images,
        measured_seconds=step_macs / (rate * count),
        measured_peak=peak,
        estimated_peak=memory(images).peak,
        evaluation_seconds=evaluation,
        device=str(trainer.accelerator.device),
    )


@dataclass(frozen=True)
class _Step:
    seconds: float
    macs: float


def _of_batch(recipe: Recipe, batch_size: int) -> Recipe:
    quiet = {"validate_every": 0, "sample_every": 0, "tracker": "none"}
    return replace(recipe, train=replace(recipe.train, **quiet, accumulate=1, batch_size=batch_size))


def _timed(trainer: Trainer) -> _Step:
    before, start = trainer.progress.macs, time.perf_counter()
    trainer.step()  # ends with a number on the host, so nothing is under way after it
    macs = (trainer.progress.macs - before) / trainer.accelerator.num_processes
    return _Step(time.perf_counter() - start, macs)


def _evaluation_seconds(trainer: Trainer) -> float:
    model, device = trainer.model.eval(), trainer.accelerator.device
    x = torch.zeros(1, *Nothing(trainer.recipe).shape, device=device)  # (1, C, H, W)
    t = torch.zeros(1, dtype=torch.int64, device=device)  # (1,)
    solver = functools.partial(solve, solver=Picard(), stop=Stop(ITERATIONS))
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        with torch.no_grad(), trainer.accelerator.autocast():
            model(x, t, solver=solver).value.sum().item()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _activations(trainer: Trainer) -> tuple[TrainingMemory, float]:
    """What an image's backward pass keeps, and the part of it that it makes again at a time."""
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


def _steps(recipe: Recipe, step_macs: float) -> int | None:
    train = recipe.train
    limits = [train.steps] if train.steps else []
    limits += [math.ceil(train.macs / step_macs)] if train.macs else []
    return min(limits, default=None)


def _resident() -> int:
    """Bytes of this process in memory now."""
    status = Path("/proc/self/status")
    if not status.exists():
        return _largest_resident()  # where the system does not say, what it has had at most so far
    (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS:"))
    return 1024 * int(line.split()[1])


def _largest_resident() -> int:
    """Bytes of this process in memory at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _with_unit(value: float, name: str) -> str:
    factor, prefixed = unit([value], name)
    return f"{short(value / factor)} {prefixed}"
