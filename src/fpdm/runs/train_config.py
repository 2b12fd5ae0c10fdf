"""How to train, as a frozen configuration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from fpdm.configuration import (
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
    """The weights that training begins with.

    Attributes:
        init_from: Begin with the weights of this run, imported model, or folder in the hub's layout (the averaged ones
            of a run); by default all begin afresh. A model of the same parts gives all its weights. Of another, its
            first and last blocks become the pre and post blocks, and those between become the middle; the injection
            begins afresh, and the labels do where the number of classes differs. The outer blocks of a DiT know the
            timestep: give --timestep-everywhere with it.
        init_block: What the middle's block begins as: "mean" (of the blocks between first and last), or the number of
            a block of that model, counted from 0. A middle of k blocks takes k means, or k blocks from that on.
        init_sha256: Of the file with those weights; empty for whatever it holds.

    Raises:
        ValueError: `init_block` is neither.
    """

    init_from: Annotated[str, "the path of a folder"] = ""
    init_block: str = "mean"
    init_sha256: str = ""

    def __post_init__(self) -> None:
        if not (self.init_block == "mean" or self.init_block.isdecimal()):
            raise ValueError(f"init_block is {self.init_block!r}; expected 'mean' or the number of a block, from 0")
        if self.init_block != "mean" and not self.init_from:
            raise ValueError(f"init_block is {self.init_block!r} without init_from; give the model to begin with too")


@configuration
class TrainConfig:
    """How to train.

    Attributes:
        steps: Optimiser steps; 0 for no limit.
        seconds: Seconds of training steps on this machine; checkpoints, validation, samples and pauses are not counted.
            0 for no limit.
        macs: Multiply-accumulates of training, a backward pass counted as two forward ones; 0 for no limit. Gives two
            models the same compute whatever the machine is doing meanwhile.
        batch_size: Images per step, over all processes.
        accumulate: Micro-batches that a process cuts its share of a step into: the same step up to rounding, in less
            memory.
        learning_rate: Learning rate after the warm-up.
        warmup: Steps over which the learning rate rises linearly.
        decay: Last share of the training over which the learning rate falls linearly to zero; 0 keeps it constant.
        weight_decay: AdamW's.
        clip_norm: The gradient's norm is clipped to this.
        ema_decay: Of the averaged weights, reached by diffusers' warm-up (1 + s) / (10 + s).
        label_dropout: Share of labels replaced by "no class", for guidance.
        gradient: Through the fixed point: "stochastic" (S-JFB), "jfb", "multistep", "unrolled" or "implicit". A stack
            of blocks is differentiated as it is.
        no_grad_iters: N, iterations without gradient at most.
        grad_iters: M, iterations with gradient at most.
        no_grad_weights: How likely each of 0..N is with "stochastic"; empty means alike.
        grad_weights: How likely each of 1..M is with "stochastic"; empty means alike.
        grad_into_start: Where no iteration is without gradient, let it flow into the iterations' start too. Not with
            "implicit".
        weighting: Of the loss: "uniform", "min_snr" or "authors".
        mixed_precision: "no", "bf16" or "fp16".
        activation_checkpointing: What the backward pass computes again instead of keeping it: "blocks" (the explicit
            ones), "iterations" (those with gradient), "all" or "none". The same step in less memory and more time,
            which macs does not count.
        seed: Everything random is a function of it.
        checkpoint_every: Steps between checkpoints; 0 saves at the end only.
        keep: Checkpoints kept, at least 2.
        log_every: Steps between rows of metrics.jsonl.
        validate_every: Steps between measurements of the validation loss, also made at the end; 0 for none.
        sample_every: Steps between pictures of samples, also made at the end; 0 for none.
        tracker: "tensorboard", "wandb", "trackio" or "none": where figures and pictures go besides the run's folder.

    Raises:
        ValueError: A field outside its range.
    """

    steps: NonNegativeInt = 400_000
    seconds: NonNegativeNumber = 0.0
    macs: NonNegativeNumber = 0.0
    batch_size: PositiveInt = 512
    accumulate: PositiveInt = 1
    learning_rate: PositiveNumber = 1e-4
    warmup: NonNegativeInt = 1000
    decay: Share = 0.0
    weight_decay: NonNegativeNumber = 0.0
    clip_norm: PositiveNumber = 1.0
    ema_decay: Share = 0.9999
    label_dropout: Share = 0.1
    gradient: Literal["stochastic", "jfb", "multistep", "unrolled", "implicit"] = "stochastic"
    no_grad_iters: NonNegativeInt = 12
    grad_iters: PositiveInt = 12
    no_grad_weights: tuple[NonNegativeNumber, ...] = ()
    grad_weights: tuple[NonNegativeNumber, ...] = ()
    grad_into_start: bool = False
    weighting: Weighting = "uniform"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    activation_checkpointing: Recomputed = "none"
    seed: Seed = 0
    checkpoint_every: NonNegativeInt = 1000
    keep: Annotated[int, Ge(2)] = 2
    log_every: PositiveInt = 20
    validate_every: NonNegativeInt = 1000
    sample_every: NonNegativeInt = 1000
    tracker: Literal["tensorboard", "wandb", "trackio", "none"] = "tensorboard"

    def __post_init__(self) -> None:
        if not (self.steps or self.seconds or self.macs):
            raise ValueError("steps, seconds and macs are all 0; give one of them, or training never ends")
        if (self.no_grad_weights or self.grad_weights) and self.gradient != "stochastic":
            raise ValueError(
                f"no_grad_weights and grad_weights need the gradient 'stochastic'; it is {self.gradient!r}"
            )
        if self.grad_into_start and self.gradient == "implicit":
            raise ValueError("grad_into_start does not go with the gradient 'implicit', which does not see the start")
        if self.macs and self.gradient == "implicit":
            raise ValueError("macs do not count the backward solve of the gradient 'implicit'; give steps or seconds")
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
        """Images that each of so many processes has in memory at once.

        Raises:
            ValueError: The batch does not divide among them.
        """
        parts = processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide among {processes} processes x accumulate "
                f"{self.accumulate}; expected a multiple of {parts}"
            )
        return self.batch_size // parts

    def make_gradient(self) -> Gradient:
        """The way to differentiate through the fixed point."""
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
        """The loss."""
        return Objective(self.weighting)

    def share_done(self, progress: Progress) -> float:
        """Share of the training that is done, by the limit that is nearest; 1 or more at the end."""
        limits = ((self.steps, progress.step), (self.seconds, progress.seconds), (self.macs, progress.macs))
        return max(spent / limit for limit, spent in limits if limit)

    def rate(self, progress: Progress) -> float:
        """Learning rate of the step that follows `progress`."""
        rising = min(1.0, (progress.step + 1) / max(self.warmup, 1))
        left = max(1.0 - self.share_done(progress), 0.0)
        return self.learning_rate * rising * (min(1.0, left / self.decay) if self.decay else 1.0)
