"""From a trained network, a plan and a seed to images: sample i is the same alone or in any batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.autoencoder.interface import Autoencoder, Pixels
from fpdm.data.images import to_uint8
from fpdm.data.labels import balanced_labels
from fpdm.devices import default_device
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import RunError
from fpdm.fixed_point.solve import Solver, mean_iterations
from fpdm.fixed_point.solvers import Anderson, Picard
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, normal
from fpdm.sampling.allocation import ALLOCATIONS, Adaptive, Allocation, probe
from fpdm.sampling.budget import Budget
from fpdm.sampling.guidance import Denoiser, Guided
from fpdm.sampling.plan import Plan
from fpdm.sampling.prediction import predicting_v
from fpdm.sampling.sampler import SampleState, sample
from fpdm.sampling.steps import make_step
from fpdm.sampling.timesteps import grid

SOLVERS: dict[str, Solver] = {"picard": Picard(), "anderson": Anderson()}


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


@dataclass(frozen=True)
class SamplingCost:
    """What drawing some images took, all of them together.

    Attributes:
        images: Number of images.
        passes: Block passes.
        macs: Multiply-accumulates.
        seconds: Seconds of sampling.
    """

    images: int
    passes: float
    macs: float
    seconds: float


def draw_images(
    sampler: ImageSampler,
    indices: Sequence[int],
    labels: Sequence[int],
    *,
    batch_size: int,
    keep: Callable[[Sequence[int], Tensor], object],
) -> SamplingCost:
    """Draw images in batches.

    Args:
        sampler: The sampler.
        indices: Global indices of the images.
        labels: The class of each image.
        batch_size: Number of images at once. It changes speed and memory only.
        keep: Called with the indices of each batch and its pixels (B, C, H, W) uint8.
    """
    passes = macs = seconds = 0.0
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        batch = sampler(chosen, labels[start : start + batch_size])
        passes, macs = passes + batch.passes * len(chosen), macs + batch.macs * len(chosen)
        seconds += batch.seconds
        keep(chosen, batch.pixels)
    return SamplingCost(len(indices), passes, macs, seconds)
