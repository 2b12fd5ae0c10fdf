"""The configuration of diffusion training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from fpdm.configuration import (
    BatchSize,
    Iterations,
    NonNegativeInt,
    NonNegativeNumber,
    PositiveInt,
    PositiveNumber,
    Seed,
    Share,
    configuration,
)
from fpdm.diffusion.objective import Objective, Weighting
from fpdm.models.config import Recomputed
from fpdm.runs.progress import Progress

if TYPE_CHECKING:
    from fpdm.fixed_point.gradients import Gradient


@configuration
class WarmStart:
    """The weights that training starts from.

    Attributes:
        init_from: Start with the (averaged) weights of this run, imported model, or folder in the hub's layout; by
            default all weights are new. A model with the same parts provides all weights. From another model, the first
            and last blocks become the pre and post blocks, and the blocks between them become the middle; the injection
            is new, and so is the label embedding if the number of classes differs. The outer blocks of a DiT see the
            timestep, so add --timestep-everywhere.
        init_block: What the block of the middle starts as: "mean" (of the blocks between the first and the last), or
            the number of a block of that model, from 0. A middle of k blocks uses k means, or k consecutive blocks.
        init_sha256: SHA-256 of the file with those weights; empty to accept any.

    Raises:
        ValueError: `init_block` is neither "mean" nor a number, or given without `init_from`.
    """

    init_from: Annotated[str, "the path of a folder"] = ""
    init_block: str = "mean"
    init_sha256: str = ""

    def __post_init__(self) -> None:
        if not (self.init_block == "mean" or self.init_block.isdecimal()):
            raise ValueError(f"init_block is {self.init_block!r}; expected 'mean' or the number of a block, from 0")
        if self.init_block != "mean" and not self.init_from:
            raise ValueError(f"init_block is {self.init_block!r} without init_from; give the model to start from too")


LONGEST_WARMUP = 0.25
"""Share of a training after which the learning rate is not raised any more, however long the warm-up."""


@configuration
class TrainConfig:
    """How to train a diffusion model.

    Attributes:
        steps: Number of optimiser steps; 0 for no limit.
        seconds: Seconds of training steps on this machine, without checkpoints, validation, samples and pauses; 0 for
            no limit.
        macs: Multiply-accumulates of training, where a backward pass counts as two forward passes; 0 for no limit. This
            gives two models the same compute, whatever else the machine is doing.
        batch_size: Images per step, over all processes.
        accumulate: Number of micro-batches per step and process. More of them need less memory for the same step, up to
            rounding.
        learning_rate: Learning rate after the warm-up.
        warmup: Steps over which the learning rate rises linearly; with --seconds fewer, if they were more than a
            quarter of the time.
        decay: Last share of the training over which the learning rate falls linearly to zero; 0 keeps it constant. With
            --seconds it is the share of the time, so that the rate is zero when the time is over.
        weight_decay: Weight decay of AdamW.
        clip_norm: Maximum norm of the gradient; larger gradients are scaled down.
        ema_decay: Decay of the averaged weights, reached by the warm-up of diffusers, (1 + s) / (10 + s).
        label_dropout: Share of labels replaced by "no class", for guidance.
        gradient: Gradient of the fixed point: "stochastic" (S-JFB), "jfb", "multistep", "unrolled" or "implicit". A
            stack of blocks is always differentiated in full.
        no_grad_iters: N, the maximum number of iterations without gradient.
        grad_iters: M, the maximum number of iterations with gradient.
        no_grad_weights: Relative probabilities of 0 to N iterations without gradient in "stochastic"; empty for equal
            ones.
        grad_weights: Relative probabilities of 1 to M iterations with gradient in "stochastic"; empty for equal ones.
        grad_into_start: Let the gradient flow into the start if no iteration is without gradient. Not possible with
            "implicit".
        random_start: Standard deviation of a normally distributed start of the fixed point in training; 0 starts from
            the output of the pre blocks, as sampling does.
        weighting: Weighting of the loss over timesteps: "uniform", "min_snr" or "authors".
        weak_weight: Weight of the loss of a weaker answer, which self-guidance steers away from: that of the first
            iterate of a fixed point (of the start, with the linear injection), or of a stack whose middle is skipped.
            0 does not train it; a fixed point's first iterate is then an answer of "stochastic" only.
        exit_weight: Weight of the loss of an early exit, drawn in each step: the answer from an iterate with gradient
            before the last, or from a stack after some of its blocks. Its target moves over the training from the truth
            to the last answer. Not together with `weak_weight`; 0 trains none.
        mixed_precision: Precision of the network during training: "no" (float32), "bf16" or "fp16".
        activation_checkpointing: What the backward pass recomputes instead of storing it: "blocks" (the pre and post
            blocks), "iterations" (those with gradient), "all" or "none". The step is the same with less memory and more
            time, which `macs` does not count.
        compile: Compile the network, which takes a minute or more and then makes every step faster. It changes results
            by rounding.
        seed: Seed of the run. Everything random is a function of it.
        checkpoint_every: Steps between two checkpoints; 0 saves only at the end.
        keep: Number of checkpoints to keep, at least 2.
        log_every: Steps between two rows of metrics.jsonl.
        validate_every: Steps between measurements of the validation loss, which is also measured at the end; 0 for
            none.
        sample_every: Steps between pictures of samples, which are also made at the end; 0 for none.
        sample_after: Seconds of training after which a picture of samples is made, then again whenever they have
            doubled, and at the end; 0 for none. It needs --seconds.
        tracker: Where metrics and pictures go in addition to the folder of the run: "tensorboard", "wandb", "trackio"
            or "none".

    Raises:
        ValueError: A field outside its range.
    """

    steps: NonNegativeInt = 400_000
    seconds: NonNegativeNumber = 0.0
    macs: NonNegativeNumber = 0.0
    batch_size: BatchSize = 512
    accumulate: BatchSize = 1
    learning_rate: PositiveNumber = 1e-4
    warmup: NonNegativeInt = 1000
    decay: Share = 0.0
    weight_decay: NonNegativeNumber = 0.0
    clip_norm: PositiveNumber = 1.0
    ema_decay: Share = 0.9999
    label_dropout: Share = 0.1
    gradient: Literal["stochastic", "jfb", "multistep", "unrolled", "implicit"] = "stochastic"
    no_grad_iters: Iterations = 12
    grad_iters: Annotated[Iterations, Ge(1)] = 12
    no_grad_weights: tuple[NonNegativeNumber, ...] = ()
    grad_weights: tuple[NonNegativeNumber, ...] = ()
    grad_into_start: bool = False
    random_start: NonNegativeNumber = 0.0
    weighting: Weighting = "uniform"
    weak_weight: NonNegativeNumber = 0.0
    exit_weight: NonNegativeNumber = 0.0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    activation_checkpointing: Recomputed = "none"
    compile: bool = False
    seed: Seed = 0
    checkpoint_every: NonNegativeInt = 1000
    keep: Annotated[PositiveInt, Ge(2)] = 2
    log_every: PositiveInt = 20
    validate_every: NonNegativeInt = 1000
    sample_every: NonNegativeInt = 1000
    sample_after: NonNegativeNumber = 0.0
    tracker: Literal["tensorboard", "wandb", "trackio", "none"] = "tensorboard"

    def __post_init__(self) -> None:
        if not (self.steps or self.seconds or self.macs):
            raise ValueError("steps, seconds and macs are all 0; give one of them, or training never ends")
        if self.sample_after and not self.seconds:
            raise ValueError(f"sample_after is {self.sample_after} without seconds; give sample_every instead")
        if (self.no_grad_weights or self.grad_weights) and self.gradient != "stochastic":
            raise ValueError(
                f"no_grad_weights and grad_weights need the gradient 'stochastic'; it is {self.gradient!r}"
            )
        if self.grad_into_start and self.gradient == "implicit":
            raise ValueError("grad_into_start does not go with the gradient 'implicit', which does not see the start")
        if self.grad_into_start and self.random_start:
            raise ValueError(
                f"grad_into_start does not go with a random_start, which is {self.random_start}; leave one out"
            )
        if self.macs and self.gradient == "implicit":
            raise ValueError("macs do not count the backward solve of the gradient 'implicit'; give steps or seconds")
        if self.exit_weight and self.weak_weight:
            raise ValueError(
                f"weak_weight is {self.weak_weight} and exit_weight {self.exit_weight}; expected one of them to be 0"
            )
        for name, least, most in (("no_grad", 0, self.no_grad_iters), ("grad", 1, self.grad_iters)):
            weights = getattr(self, f"{name}_weights")
            if weights and not sum(weights):
                raise ValueError(f"{name}_weights is {weights}; expected numbers of at least 0, not all 0")
            if len(weights) not in (0, most - least + 1):
                raise ValueError(
                    f"{name}_weights has {len(weights)} entries; expected {most - least + 1}, one for each of "
                    f"{least}..{most}"
                )

    def micro_batch(self, processes: int) -> int:
        """Return the number of images that each process has in memory at once.

        Raises:
            ValueError: The batch size is not divisible by `processes` x `accumulate`.
        """
        parts = processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide among {processes} processes x accumulate "
                f"{self.accumulate}; expected a multiple of {parts}"
            )
        return self.batch_size // parts

    @property
    def mean_iterations(self) -> int:
        """Mean number of iterations of a training step, rounded; for "implicit", which converges, the largest one."""
        N, M = self.no_grad_iters, self.grad_iters
        fixed = {"jfb": N + 1, "multistep": N + M, "unrolled": M, "implicit": 100}
        if self.gradient in fixed:
            return fixed[self.gradient]
        counts = (
            (range(N + 1), self.no_grad_weights or [1.0] * (N + 1)),
            (range(1, M + 1), self.grad_weights or [1.0] * M),
        )
        mean = sum(sum(n * w for n, w in zip(ns, ws, strict=True)) / sum(ws) for ns, ws in counts)
        return max(1, round(mean))

    @property
    def most_iterations(self) -> int:
        """Largest number of iterations of a training step; for "implicit", which converges, that of its solve."""
        N, M = self.no_grad_iters, self.grad_iters
        return {"jfb": N + 1, "unrolled": M, "implicit": 100}.get(self.gradient, N + M)

    @property
    def most_grad_iterations(self) -> int:
        """Largest number of iterations with gradient of a training step."""
        if self.gradient in ("jfb", "implicit"):
            return 1
        if not self.grad_weights:
            return self.grad_iters
        return max(m for m, weight in enumerate(self.grad_weights, 1) if weight)

    def make_gradient(self) -> Gradient:
        """Create the gradient of the fixed point."""
        from fpdm.fixed_point.gradients import Implicit, JacobianFree, jfb, multistep_jfb, unrolled  # imports PyTorch

        if self.gradient == "implicit":
            return Implicit()
        N, M = self.no_grad_iters, self.grad_iters
        makers = {
            "stochastic": lambda: JacobianFree((0, N), (1, M), self.no_grad_weights, self.grad_weights),
            "jfb": lambda: jfb(N),
            "multistep": lambda: multistep_jfb(N, M),
            "unrolled": lambda: unrolled(M),
        }
        return dataclasses.replace(makers[self.gradient](), into_start=self.grad_into_start)

    def make_objective(self) -> Objective:
        """Create the objective."""
        return Objective(self.weighting, weak=self.weak_weight, exit=self.exit_weight)

    @property
    def draws_samples(self) -> bool:
        """Whether pictures of samples are made during training."""
        return bool(self.sample_every or self.sample_after)

    def share_done(self, progress: Progress) -> float:
        """Return the share of the training that is done, by the nearest limit; 1 or more at the end."""
        limits = ((self.steps, progress.step), (self.seconds, progress.seconds), (self.macs, progress.macs))
        return max(spent / limit for limit, spent in limits if limit)

    def rate(self, progress: Progress) -> float:
        """Return the learning rate of the step that follows `progress`."""
        done = self.share_done(progress)
        rising = min(1.0, (progress.step + 1) / max(self.warmup, 1))
        if self.seconds:  # how many steps the clock allows is not known; a run by steps may be trained on
            rising = min(1.0, max(rising, done / LONGEST_WARMUP))
        left = max(1.0 - done, 0.0)
        return self.learning_rate * rising * (min(1.0, left / self.decay) if self.decay else 1.0)
