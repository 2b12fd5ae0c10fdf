"""Sampling of images from a trained network: image i of a seed is the same in any batch."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
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
from fpdm.progress_bar import progress_bar, track
from fpdm.randomness import Stream, normal
from fpdm.sampling.allocation import ALLOCATIONS, Adaptive, Allocation, Probed, probe
from fpdm.sampling.budget import Budget
from fpdm.sampling.engine import Drawn, Trajectories, draw_in_slots
from fpdm.sampling.guidance import Denoiser, Guided
from fpdm.sampling.packed import can_be_packed, packed
from fpdm.sampling.plan import Plan
from fpdm.sampling.prediction import predicting_v
from fpdm.sampling.sampler import SampleState, sample
from fpdm.sampling.schedulers import check_scheduler, with_evaluations, with_steps
from fpdm.sampling.self_guidance import SelfGuided, WeakAnswers, affordable_steps
from fpdm.sampling.steps import DiffusersStep, Step, make_step
from fpdm.sampling.timesteps import grid

SOLVERS: dict[str, Solver] = {"picard": Picard(), "anderson": Anderson()}


@dataclass(frozen=True)
class Images:
    """A batch of finished samples.

    Attributes:
        pixels: The images, (B, C, H, W) uint8.
        passes: Block passes, averaged over the samples. With an adaptive allocation every sample counts its own
            iterations only, although the batch takes as long as its slowest sample.
        macs: Multiply-accumulates, averaged in the same way, including guidance's second evaluation, weaker answers and
            the decoding of latents.
        seconds: Wall-clock time of the batch, including decoding.
    """

    pixels: Tensor
    passes: float
    macs: float
    seconds: float


class ImageSampler:
    """Sampler of images from a network under a plan.

    Args:
        model: The network.
        schedule: Its noise schedule.
        plan: How to spend the budget.
        seed: Seed of the samples; each is a function of the seed and its index.
        device: Device that the model is on, if only while it runs (CPU offload); None moves the model to CUDA, MPS or
            the CPU.
        autoencoder: Decoder of the network's latents, on any device; None for a network of pixels.
        scheduler: A scheduler of diffusers, which makes the steps and chooses the timesteps; None for the plan's own
            sampler and grid.
        steps: Number of steps, over which the budget is divided; None for as many as it affords with the plan's number
            of iterations.
        allocation: An allocation of one's own; None for the plan's.

    Attributes:
        timesteps: The timesteps at which the network is evaluated, noisiest first.
        scheduler: Name of the scheduler of diffusers that makes the steps; None for the plan's own sampler.
        table: Iterations of each step in sampling order; with an adaptive allocation, the minimum of each.
        probed: How the threshold of an adaptive allocation was found; None for other allocations.
        weak: The weaker answers of self-guidance; None without.
        unspent: Block passes that the plan cannot spend; an adaptive allocation may spend even less.

    Raises:
        ValueError: The plan, the autoencoder or the scheduler does not fit the model.
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
        scheduler: Any = None,
        steps: int | None = None,
        allocation: Allocation | None = None,
    ) -> None:
        self.autoencoder = autoencoder or Pixels()
        self.autoencoder.image_shape(sample_shape(model))  # raises before anything is drawn
        self.device = device or default_device()
        self.cost = model.cost()
        plan = plan.with_iterations(self.cost)
        self.model, self.schedule, self.plan, self.seed = model.eval(), schedule, plan, seed
        if device is None:
            self.model.to(self.device)  # type: ignore[arg-type]
        self.weak = WeakAnswers.of(plan, self.cost)
        self._choose_steps(scheduler, steps)
        weaker = self.weak.passes(self.timesteps) if self.weak else 0
        self.budget = Budget.of(plan.budget, self.cost, weaker=weaker)
        self.probed = self._probe() if plan.adaptive and allocation is None else None
        if allocation is None:
            allocation = self.probed.allocation if self.probed else ALLOCATIONS[plan.allocation]
        self.allocation = allocation
        self.table = self.allocation.table(self.budget, len(self.timesteps))
        if self.weak and not plan.adaptive:
            self.weak.check(self.table)
        most = int(self.budget.spent(len(self.timesteps), self.budget.iterations(len(self.timesteps))))
        self.unspent = plan.budget - (most if plan.adaptive else self.budget.cost(self.table))

    def around(self, network: Denoiser, *, weaker: bool = True) -> Denoiser:
        """Wrap a network in what the plan asks for; in self-guidance only with `weaker`."""
        plan, denoiser = self.plan, predicting_v(network, self.schedule)
        if self.weak and weaker:
            denoiser = SelfGuided(denoiser, plan.self_guidance, self.weak.depth, self.weak.between)
        return denoiser if plan.guidance == 1.0 else Guided(denoiser, plan.guidance, self.model.shape.num_classes)

    def _choose_steps(self, scheduler: Any, steps: int | None) -> None:
        """Choose the timesteps and the step from one to the next."""
        plan, schedule, self.scheduler = self.plan, self.schedule, None
        if scheduler is None:
            own_grid = functools.partial(grid, schedule, name=plan.grid)
            grid_of_plan = own_grid(affordable_steps(plan, self.cost, own_grid) if steps is None else steps)
            learned = self.model.shape.learn_variance
            self.timesteps: tuple[float, ...] = grid_of_plan
            self.step: Step = make_step(plan.sampler, schedule, grid_of_plan, learned_variance=learned)
            return
        for name in ("sampler", "grid"):
            if getattr(plan, name) != getattr(Plan, name):
                raise ValueError(
                    f"{name} is {getattr(plan, name)!r}, but {type(scheduler).__name__} makes the steps; give only one"
                )
        check_scheduler(scheduler, schedule)
        if steps is None:
            # Its timesteps are not known yet: weaker answers are paid for as if all of these had one.
            affordable = affordable_steps(replace(plan, self_guidance_range=()), self.cost, range)
            own = with_evaluations(scheduler, schedule, affordable)
        else:
            own = with_steps(scheduler, schedule, steps)
        self.timesteps, self.step = tuple(own.timesteps.tolist()), DiffusersStep(own)
        self.scheduler = type(scheduler).__name__

    def __call__(self, indices: Sequence[int], labels: Sequence[int]) -> Images:
        """Sample the images with these global indices and labels.

        Raises:
            ValueError: A label is out of range, or the numbers of labels and indices differ.
            RunError: The samples are not finite.
        """
        pixels, cost = draw_in_order(self, indices, labels, batch_size=len(indices))
        return Images(pixels, cost.passes / cost.images, cost.macs / cost.images, cost.seconds)

    def draw(self, indices: Sequence[int], labels: Sequence[int], *, batch_size: int) -> Iterator[Drawn]:
        """Draw the samples of these images, in the order in which they finish; this is the one way to draw samples.

        An adaptive allocation draws in slots that refill; only with self-guidance, or if the model is offloaded, it
        draws in batches, as all others do (see `engine.py`).

        Args:
            indices: Global indices of the images.
            labels: Their labels.
            batch_size: Number of samples at once.

        Raises:
            ValueError: A label is out of range, or the numbers of labels and indices differ.
        """
        return self._draw(indices, labels, self.allocation, batch_size=batch_size)

    @property
    def weights_memory(self) -> int:
        """Bytes of the weights, with their packed copies if there are any while samples are drawn (see `packed.py`)."""
        return self.cost.weights_memory + can_be_packed(self.model) * self.cost.packed_memory

    @property
    def refills(self) -> bool:
        """Whether samples are drawn in slots that refill."""
        return self.plan.adaptive and self.weak is None and not hasattr(self.model, "_hf_hook")

    def _draw(
        self,
        indices: Sequence[int],
        labels: Sequence[int],
        allocation: Allocation,
        *,
        batch_size: int,
        seeds: Sequence[int] | None = None,
    ) -> Iterator[Drawn]:
        network = packed(self.model)
        if self.refills:
            self._check(indices, labels)
            yield from draw_in_slots(
                Trajectories(
                    network=network,
                    around=self.around,
                    schedule=self.schedule,
                    timesteps=self.timesteps,
                    step=self.step,
                    budget=self.budget,
                    allocation=allocation,
                    clip=self.autoencoder.clip,
                    reuse=self.plan.reuse,
                    solver=SOLVERS[self.plan.solver],
                ),
                len(indices),
                self._labels(labels),
                functools.partial(self._noise, indices, seeds),
                slots=batch_size,
            )
            return
        for start in range(0, len(indices), batch_size):
            part = slice(start, start + batch_size)
            chosen = None if seeds is None else seeds[part]
            places = list(range(*part.indices(len(indices))))
            states = self._sample(network, indices[part], labels[part], allocation, seeds=chosen)
            *_, last = track(states, f"batch of {len(places)}", len(self.timesteps), "steps", inner=True)
            yield Drawn(places, last.x, last.iterations.tolist())

    def trajectory(
        self,
        indices: Sequence[int],
        labels: Sequence[int],
        *,
        seeds: Sequence[int] | None = None,
        measure: bool = False,
    ) -> Generator[SampleState, Tensor | None, None]:
        """Sample step by step, as `sample` does.

        Args:
            indices: Global indices of the images.
            labels: Their labels.
            seeds: A seed for each image; None for the sampler's.
            measure: Report the residual of each step.

        Raises:
            ValueError: A label is out of range, or the numbers of labels and indices differ.
        """
        return self._sample(packed(self.model), indices, labels, self.allocation, seeds=seeds, measure=measure)

    def decode(self, x: Tensor) -> Tensor:
        """Decode samples (B, c, h, w) to images (B, C, H, W), approximately in [-1, 1].

        Raises:
            RunError: The samples are not finite.
        """
        if not bool(x.isfinite().all()):
            raise RunError("the samples are nan or inf: the model has diverged, in training or under this plan")
        return self.autoencoder.decode(x)  # (B, C, H, W)

    def spent(self, state: SampleState) -> tuple[float, float]:
        """Count the block passes and MACs spent up to a state, and in decoding, averaged over the samples."""
        return self.cost_of(state.index + 1, mean_iterations(state.spent))

    def cost_of(self, steps: int, iterations: float) -> tuple[float, float]:
        """Count the block passes and MACs of `steps` steps with a total of `iterations`, and decoding, per sample."""
        evaluations = self.plan.evaluations
        macs = evaluations * steps * self.cost.evaluation_macs(iterations / steps)
        passes = self.budget.spent(steps, iterations)
        if self.weak:
            so_far = self.timesteps[:steps]
            macs += evaluations * self.weak.macs(so_far)
            passes += self.weak.passes(so_far) - self.budget.weaker
        return passes, macs + self.autoencoder.decoding_macs(sample_shape(self.model))

    def _sample(
        self,
        network: DiffusionTransformer,
        indices: Sequence[int],
        labels: Sequence[int],
        allocation: Allocation,
        *,
        seeds: Sequence[int] | None = None,
        measure: bool = False,
    ) -> Generator[SampleState, Tensor | None, None]:
        self._check(indices, labels)
        return sample(
            self.around(network),
            self._noise(indices, seeds, range(len(indices)), [0] * len(indices)),
            self._labels(labels),
            schedule=self.schedule,
            timesteps=self.timesteps,
            step=self.step,
            budget=self.budget,
            allocation=allocation,
            clip=self.autoencoder.clip,
            noise=lambda k: self._noise(indices, seeds, range(len(indices)), [k + 1] * len(indices)),
            reuse=self.plan.reuse,
            solver=SOLVERS[self.plan.solver],
            measure=measure,
        )

    def _check(self, indices: Sequence[int], labels: Sequence[int]) -> None:
        classes = self.model.shape.num_classes
        if len(labels) != len(indices) or not indices:
            raise ValueError(
                f"{len(labels)} labels for {len(indices)} images; expected one each, for at least one image"
            )
        for label in labels:
            if not 0 <= label < max(classes, 1):
                raise ValueError(f"class {label} is out of range; expected 0 to {max(classes, 1) - 1}")

    def _labels(self, labels: Sequence[int]) -> Tensor | None:
        return torch.tensor(list(labels), device=self.device) if self.model.shape.num_classes else None  # (B,)

    def _noise(
        self, indices: Sequence[int], seeds: Sequence[int] | None, places: Sequence[int], steps: Sequence[int]
    ) -> Tensor:
        """Return the noise of the images at these places of a job, each for its own step: (B, C, H, W)."""
        seed = self.seed if seeds is None else [seeds[place] for place in places]
        chosen = [indices[place] for place in places]
        shape = sample_shape(self.model)
        return normal(shape, seed=seed, stream=Stream.SAMPLE, indices=chosen, step=steps).to(self.device)

    def _probe(self, count: int = 32) -> Probed:
        """Find the threshold of an adaptive allocation, on images whose indices no user's images have."""
        indices = range(2**63, 2**63 + count)
        labels = balanced_labels(range(count), self.model.shape.num_classes)

        def run(allocation: Adaptive) -> float:
            drawn = self._draw(
                indices, labels, allocation, batch_size=count, seeds=[0] * count
            )  # whatever the own seed
            return float(np.mean([spent for some in drawn for spent in some.iterations]))

        return probe(self.budget, len(self.timesteps), run)


def sample_shape(model: DiffusionTransformer) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of a model's samples, pixels or latents."""
    return model.shape.in_channels, model.shape.image_size, model.shape.image_size


@dataclass(frozen=True)
class SamplingCost:
    """Total cost of drawing some images.

    Attributes:
        images: Number of images.
        passes: Block passes.
        macs: Multiply-accumulates.
        seconds: Seconds of sampling.
        batches: Seconds per image of each batch; empty if images were not drawn in batches.
    """

    images: int
    passes: float
    macs: float
    seconds: float
    batches: tuple[float, ...] = ()

    @property
    def seconds_per_image(self) -> float:
        """Seconds per image of the fastest batch, which other load on the machine disturbed least."""
        return min(self.batches, default=self.seconds / self.images)


def draw_images(
    sampler: ImageSampler,
    indices: Sequence[int],
    labels: Sequence[int],
    *,
    batch_size: int,
    keep: Callable[[Sequence[int], Tensor], object],
) -> SamplingCost:
    """Draw images. What is done with them overlaps with sampling.

    Args:
        sampler: The sampler.
        indices: Global indices of the images.
        labels: The class of each image.
        batch_size: Number of images at once. It changes speed and memory only.
        keep: Called in another thread, one call after the other, with the places in `indices` of some images and their
            pixels (B, C, H, W) uint8. They come in order, unless an allocation is adaptive.

    Raises:
        ValueError: A label is out of range, or the numbers of labels and indices differ.
        RunError: The samples are not finite.
    """
    spent: list[float] = []
    seconds = 0.0
    batches: list[float] = []  # seconds per image of each
    # The other thread computes no tensors: it would start threads of its own, which take the cores from the sampling's.
    with progress_bar("sampling", len(indices), "images") as bar, ThreadPoolExecutor(1) as worker:
        pending: Future[object] | None = None
        drawn = sampler.draw(indices, labels, batch_size=batch_size)
        while True:
            start = time.perf_counter()
            with bar.step(0 if sampler.refills else min(batch_size, len(indices) - len(spent))):
                some = next(drawn, None)
                pixels = None if some is None else to_uint8(sampler.decode(some.x)).cpu()  # (B, C, H, W)
            elapsed = time.perf_counter() - start
            seconds += elapsed
            if pending is not None:  # at most one batch waits, and an error ends the sampling
                pending.result()
            if some is None or pixels is None:
                break
            batches.append(elapsed / len(some.places))
            spent += some.iterations
            bar.set(len(spent))
            pending = worker.submit(keep, some.places, pixels)
    costs = [sampler.cost_of(len(sampler.timesteps), iterations) for iterations in spent]
    passes, macs = (sum(values) for values in zip(*costs, strict=True)) if costs else (0.0, 0.0)
    return SamplingCost(len(indices), passes, macs, seconds, () if sampler.refills else tuple(batches))


def draw_in_order(
    sampler: ImageSampler, indices: Sequence[int], labels: Sequence[int], *, batch_size: int
) -> tuple[Tensor, SamplingCost]:
    """Draw images as `draw_images` does, and return their pixels (N, C, H, W) uint8 in the order of `indices`."""
    found: dict[int, Tensor] = {}

    def keep(places: Sequence[int], pixels: Tensor) -> None:
        found.update(zip(places, pixels, strict=True))

    cost = draw_images(sampler, indices, labels, batch_size=batch_size, keep=keep)
    return torch.stack([found[place] for place in range(len(indices))]), cost  # (N, C, H, W)
