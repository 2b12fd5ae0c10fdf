"""The price of a plan, known beforehand: seconds and memory on the machine in hand, from MACs and a calibration.

An evaluation costs what is around the iterations and, for each iteration, the same again. Both are measured, in less
than a few seconds; the rest is counting. So a budget can also be given as MACs or as seconds.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch

from fpdm.fixed_point.solve import Stop, solve
from fpdm.models.cost import ModelCost
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling.budget import Budget
from fpdm.sampling.images import SOLVERS, ImageSampler, sample_shape
from fpdm.sampling.packed import packed

MOST_PASSES = 10**7  # of a plan
_MAY_BE = "block passes (280), MACs (30GMAC) or seconds (0.5s)"
_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})\s*(?:([KMGT]?)(MACs?)|(ms|s))", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Amount:
    """A budget per image, in the unit that a user has chosen.

    Attributes:
        value: Number of block passes, MACs or seconds.
        unit: What is counted.
    """

    value: float
    unit: Literal["passes", "macs", "seconds"]

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read an amount, such as "280", "30GMAC" or "0.5s".

        Raises:
            ValueError: It is no such amount.
        """
        if text.strip().isascii() and text.strip().isdigit():
            return cls(int(text[:20]), "passes")  # a plan says which numbers are possible
        match = _AMOUNT.fullmatch(text.strip())
        value = float(match[1]) if match else 0.0
        if match is None or not value:
            raise ValueError(f"budget is {text!r}; expected {_MAY_BE}")
        if match[3]:
            return cls(value * _UNITS[match[2].upper()], "macs")
        return cls(value / (1000.0 if match[4].lower() == "ms" else 1.0), "seconds")


@dataclass(frozen=True)
class Calibration:
    """Seconds of a model's parts on the machine in hand, for one batch.

    Attributes:
        images: Number of images in the batch.
        around: Seconds of an evaluation without its iterations, and of the step to the next timestep.
        iteration: Seconds of an iteration; 0 for a model whose number of iterations is fixed.
        decoding: Seconds of decoding the batch.
    """

    images: int
    around: float
    iteration: float
    decoding: float

    def seconds(self, steps: int, iterations: float) -> float:
        """Return the seconds of a batch after so many steps with a total of `iterations`, decoded."""
        return steps * self.around + iterations * self.iteration + self.decoding


@dataclass(frozen=True)
class Price:
    """Cost of a plan on this machine.

    Attributes:
        passes: Block passes per image.
        macs: Multiply-accumulates per image, with guidance and decoding.
        latency: Seconds of one image by itself.
        throughput: Images per second in batches.
        batch_size: Number of images in these batches.
        memory: Bytes of the weights, of their packed copies, and of the tensors of such a batch, at their peak.
    """

    passes: float
    macs: float
    latency: float
    throughput: float
    batch_size: int
    memory: int

    def to_text(self) -> str:
        """Describe the price in one line."""
        return (
            f"{self.passes:.0f} block passes and {self.macs / 1e9:.4g} GMACs per image: {self.latency:.3g} s for one "
            f"image, {self.throughput:.3g} images/s in batches of {self.batch_size}, {self.memory / 2**20:,.0f} MiB of "
            "weights and activations"
        )


def calibrate(sampler: ImageSampler, images: int, *, seconds: float = 1.0) -> Calibration:
    """Measure what a batch costs with the plan of a sampler.

    Args:
        sampler: The sampler.
        images: Number of images in the batch.
        seconds: How long to measure, about; the first evaluations, which warm up, come on top.
    """
    network = packed(sampler.model)  # as when images are drawn
    few, many = (_Timed(sampler, network, images, iterations) for iterations in (1, 4))
    timed = [few, many] if sampler.cost.middle.adjustable else [few]
    found: list[list[float]] = [[] for _ in timed]
    for one in timed:
        one()
    end = time.perf_counter() + seconds
    while not found[0] or (time.perf_counter() < end and len(found[0]) < 200):  # in turn, as other load changes
        for one, taken in zip(timed, found, strict=True):
            taken.append(one())
    iteration = max((median(found[1]) - median(found[0])) / 3, 0.0) if len(timed) > 1 else 0.0
    x = torch.zeros(images, *sample_shape(sampler.model), device=sampler.device)  # (B, c, h, w)
    decoding = 0.0
    if sampler.autoencoder.decoding_macs(sample_shape(sampler.model)):
        decoding = min(_seconds(lambda: sampler.decode(x), sampler.device) for _ in range(2))
    return Calibration(images, max(median(found[0]) - iteration, 0.0), iteration, decoding)


def price(sampler: ImageSampler, *, batch_size: int = 64, seconds: float = 1.0) -> Price:
    """Predict what a sampler's plan costs on this machine.

    With an adaptive allocation, it is what the plan may spend at most.

    Args:
        sampler: The sampler.
        batch_size: Number of images of a batch, for the throughput.
        seconds: How long each of two calibrations measures.
    """
    steps, budget = len(sampler.timesteps), sampler.budget
    total = budget.iterations(steps) if budget.adjustable else sum(sampler.table)
    macs = steps * sampler.cost.evaluation_macs(total / steps)
    weaker = 1.0 + (sampler.weak.macs(sampler.timesteps) / macs if sampler.weak else 0.0)  # they take time as MACs do
    alone, together = (calibrate(sampler, count, seconds=seconds) for count in (1, batch_size))
    spent, macs = sampler.cost_of(steps, total)
    return Price(
        passes=spent,
        macs=macs,
        latency=weaker * alone.seconds(steps, total),
        throughput=batch_size / (weaker * together.seconds(steps, total)),
        batch_size=batch_size,
        memory=sampler.weights_memory + sampler.cost.peak_memory(sampler.plan.evaluations * batch_size),
    )


def affordable_passes(
    amount: Amount,
    cost: ModelCost,
    iterations: int,
    *,
    evaluations: int,
    decoding: int = 0,
    calibration: Calibration | None = None,
) -> int:
    """Return the largest budget in block passes that costs at most an amount.

    Args:
        amount: The amount per image.
        cost: Cost of the model.
        iterations: Iterations per step, if the model leaves their number open.
        evaluations: Evaluations of the network per step, 2 with guidance.
        decoding: MACs of decoding an image.
        calibration: Seconds of the model's parts for one image, which an amount in seconds needs.

    Raises:
        ValueError: The amount is less than one step costs, or more than any plan.
    """
    least = cost.passes(cost.middle.iterations.start)

    def total(passes: int) -> float:
        budget = Budget.of(passes, cost)
        steps = max(budget.passes // cost.passes(iterations or cost.middle.iterations.start), 1)
        spent = budget.iterations(steps)
        if amount.unit == "macs":
            return decoding + evaluations * (steps * cost.evaluation_macs(0) + spent * cost.middle.iterate)
        assert calibration is not None, "an amount in seconds needs a calibration"
        return calibration.seconds(steps, spent if budget.adjustable else 0.0)

    if total(least) > amount.value:
        unit = "MACs" if amount.unit == "macs" else "seconds"
        raise ValueError(
            f"a budget of {amount.value:.3g} {unit} is below one step; expected at least {total(least):.3g}"
        )
    low, high = least, MOST_PASSES  # the largest affordable budget is in low .. high - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= amount.value else (low, middle)
    return low


class _Timed:
    """Evaluates a denoiser on noise, with a number of iterations, and returns the seconds."""

    def __init__(self, sampler: ImageSampler, network: DiffusionTransformer, images: int, iterations: int) -> None:
        shape, device = sampler.model.shape, sampler.device
        self.device, self.denoiser = device, sampler.around(network, weaker=False)
        self.x = torch.randn(images, *sample_shape(sampler.model), device=device)  # (B, C, H, W)
        self.t = torch.full((images,), sampler.timesteps[0], device=device)  # (B,)
        self.y = torch.zeros(images, dtype=torch.int64, device=device) if shape.num_classes else None  # (B,)
        self.solver = functools.partial(solve, solver=SOLVERS[sampler.plan.solver], stop=Stop(iterations))

    @torch.no_grad()
    def __call__(self) -> float:
        return _seconds(lambda: self.denoiser(self.x, self.t, self.y, solver=self.solver), self.device)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
