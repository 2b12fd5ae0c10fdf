"""From a trained network, a plan and a seed to images: sample i is the same alone or in any batch."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from fpdm.autoencoder import Autoencoder, Pixels
from fpdm.data import to_uint8
from fpdm.diffusion import Schedule
from fpdm.errors import RunError
from fpdm.fixed_point import Anderson, Picard, Solver, mean_iterations
from fpdm.models import DiffusionTransformer
from fpdm.randomness import Stream, normal
from fpdm.sampling import (
    ALLOCATIONS,
    Adaptive,
    Allocation,
    Budget,
    Denoiser,
    Guided,
    SampleState,
    grid,
    make_step,
    predicting_v,
    probe,
    sample,
)

SOLVERS: dict[str, Solver] = {"picard": Picard(), "anderson": Anderson()}


@dataclass(frozen=True)
class Plan:
    """How to spend a budget on a sample.

    Attributes:
        budget: Block passes per sample (paper Sec. 4.2).
        iterations: Fixed-point iterations per step, which says how many steps the budget pays for; 0 for a model whose
            middle leaves no choice.
        sampler: "ddim", "ddpm", "second-order", "dpmsolver++" or "unipc".
        grid: Timestep grid: "trailing", "linspace" or "phi^P".
        allocation: "constant", "increasing", "decreasing" or "adaptive".
        reuse: Start each solve from the last step's solution.
        guidance: Scale of classifier-free guidance; 1 is none.
        solver: "picard" or "anderson".

    Raises:
        ValueError: An unknown allocation or solver, or a negative number.
    """

    budget: int
    iterations: int = 0
    sampler: str = "ddim"
    grid: str = "trailing"
    allocation: Literal["constant", "increasing", "decreasing", "adaptive"] = "constant"
    reuse: bool = True
    guidance: float = 1.0
    solver: Literal["picard", "anderson"] = "picard"

    def __post_init__(self) -> None:
        if self.budget < 1 or self.iterations < 0:
            raise ValueError(
                f"budget {self.budget} and iterations {self.iterations}; expected a positive number of block passes, "
                "and iterations of at least 1 (or none, for a model that leaves no choice)"
            )
        names = [*ALLOCATIONS, "adaptive"]
        if self.allocation not in names:
            raise ValueError(f"allocation is {self.allocation!r}; expected one of {', '.join(names)}")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver is {self.solver!r}; expected one of {', '.join(SOLVERS)}")


@dataclass(frozen=True)
class Images:
    """Finished samples.

    Attributes:
        pixels: (B, C, H, W) uint8.
        passes: Block passes, mean per sample. With an adaptive allocation a batch takes as long as its slowest sample,
            though each counts its own iterations only.
        macs: Multiply-accumulates, mean per sample in the same sense, guidance's second evaluation and the decoding of
            latents included.
        seconds: What it took for the batch, decoding included.
    """

    pixels: Tensor
    passes: float
    macs: float
    seconds: float


class ImageSampler:
    """A network with a plan worked out for it.

    Args:
        model: The network.
        schedule: Its noise schedule.
        plan: How to spend the budget.
        seed: Samples are a function of it and their index.
        device: Where to run; None picks CUDA, MPS or the CPU.
        autoencoder: What decodes the network's latents, on any device; for a model of pixels nothing does.

    Attributes:
        timesteps: The grid, noisiest first.
        table: Iterations of each step in sampling order; with an adaptive allocation the least of each.
        unspent: Block passes that the plan leaves over for certain; an adaptive allocation may leave more.

    Raises:
        ValueError: The plan or the autoencoder does not fit the model.
    """

    def __init__(
        self,
        model: DiffusionTransformer,
        schedule: Schedule,
        plan: Plan,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        autoencoder: Autoencoder | None = None,
    ) -> None:
        self.autoencoder = autoencoder or Pixels()
        self.autoencoder.image_shape(sample_shape(model))  # raises before anything is drawn
        self.device = device or default_device()
        self.model, self.schedule, self.plan, self.seed = model.eval(), schedule, plan, seed
        self.model.to(self.device)  # type: ignore[arg-type]
        self.cost = model.cost()
        self.budget = Budget.of(plan.budget, self.cost)
        steps = self.budget.steps(plan.iterations or None)
        self.timesteps = grid(schedule, steps, plan.grid)
        self.step = make_step(plan.sampler, schedule, self.timesteps, learned_variance=model.shape.learn_variance)
        self.denoiser: Denoiser = predicting_v(model, schedule)
        if plan.guidance != 1.0:
            self.denoiser = Guided(self.denoiser, plan.guidance, model.shape.num_classes)
        self.allocation: Allocation = (
            ALLOCATIONS[plan.allocation] if plan.allocation != "adaptive" else self._probed(steps)
        )
        self.table = self.allocation.table(self.budget, steps)
        most = int(self.budget.spent(steps, self.budget.iterations(steps)))
        self.unspent = plan.budget - (self.budget.cost(self.table) if plan.allocation != "adaptive" else most)

    def __call__(self, indices: Sequence[int], labels: Sequence[int]) -> Images:
        """Sample the images with these global indices and labels.

        Raises:
            ValueError: A label out of range, or as many labels as indices are not given.
            RunError: The samples are not finite.
        """
        start = time.perf_counter()
        last = self._sample(indices, labels, self.allocation)
        spent = mean_iterations(last.spent)
        steps = len(self.timesteps)
        passes = self.budget.spent(steps, spent)
        evaluations = 1 if self.plan.guidance == 1.0 else 2
        macs = evaluations * steps * self.cost.evaluation_macs(spent / steps)
        macs += self.autoencoder.decoding_macs(sample_shape(self.model))
        if not bool(last.x.isfinite().all()):
            raise RunError("the samples are nan or inf: the model has diverged, in training or under this plan")
        pixels = to_uint8(self.autoencoder.decode(last.x)).cpu()  # (B, C, H, W)
        return Images(pixels, passes, macs, time.perf_counter() - start)

    def _sample(self, indices: Sequence[int], labels: Sequence[int], allocation: Allocation) -> SampleState:
        classes = self.model.shape.num_classes
        if len(labels) != len(indices) or not indices:
            raise ValueError(
                f"{len(labels)} labels for {len(indices)} images; expected one each, for at least one image"
            )
        for label in labels:
            if not 0 <= label < max(classes, 1):
                raise ValueError(f"class {label} is out of range; expected 0 to {max(classes, 1) - 1}")
        shape = sample_shape(self.model)

        def noise(step: int) -> Tensor:
            drawn = normal(shape, seed=self.seed, stream=Stream.SAMPLE, indices=indices, step=step)
            return drawn.to(self.device)  # (B, C, H, W)

        y = torch.tensor(list(labels), device=self.device) if classes else None  # (B,)
        *_, last = sample(
            self.denoiser,
            noise(0),
            y,
            schedule=self.schedule,
            timesteps=self.timesteps,
            step=self.step,
            budget=self.budget,
            allocation=allocation,
            clip=self.autoencoder.clip,
            noise=lambda k: noise(k + 1),
            reuse=self.plan.reuse,
            solver=SOLVERS[self.plan.solver],
        )
        return last

    def _probed(self, steps: int, count: int = 32) -> Adaptive:
        """An adaptive allocation, its threshold probed on images that no index of a user's reaches."""
        indices = range(2**63, 2**63 + count)
        labels = balanced_labels(range(count), self.model.shape.num_classes)

        def run(allocation: Adaptive) -> float:
            return mean_iterations(self._sample(indices, labels, allocation).spent)

        return probe(self.budget, steps, run).allocation


def sample_shape(model: DiffusionTransformer) -> tuple[int, int, int]:
    """(C, H, W) of what a model makes, pixels or latents."""
    return model.shape.in_channels, model.shape.image_size, model.shape.image_size


def balanced_labels(indices: Sequence[int], num_classes: int) -> list[int]:
    """Label i modulo the number of classes for image i; all 0 for an unconditional model."""
    return [index % max(num_classes, 1) for index in indices]


def proportional_labels(count: int, sizes: Sequence[int]) -> list[int]:
    """Labels of images 0 to `count`, as near to the classes' proportions as whole numbers can be after every image.

    Each label in turn is the one with the largest size / (2 images so far + 1) (Webster's method); equal sizes give
    label i modulo the number of classes.

    Args:
        count: Images.
        sizes: Of the classes, one above 0 at least; empty without classes, where every label is 0.
    """
    if not sizes:
        return [0] * count
    claims = [(-Fraction(size), label) for label, size in enumerate(sizes)]  # the strongest first
    heapq.heapify(claims)
    labels, given = [], [0] * len(sizes)
    for _ in range(count):
        label = claims[0][1]
        labels.append(label)
        given[label] += 1
        heapq.heapreplace(claims, (-Fraction(sizes[label], 2 * given[label] + 1), label))
    return labels


def default_device() -> torch.device:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: It is no device's name, or that device is not to be had.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch was built without it
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the device {name} cannot be used ({reason}); expected cpu, cuda, cuda:1 or mps") from error
    return device
