"""Configurations of an autoencoder and its training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from fpdm.configuration import (
    BatchSize,
    NonNegativeInt,
    NonNegativeNumber,
    PositiveInt,
    PositiveNumber,
    Record,
    Seed,
    Share,
    configuration,
    differences,
)
from fpdm.data.config import DataConfig
from fpdm.files import read_dataclass
from fpdm.outputs import OutputFolder
from fpdm.runs.layout import METRICS
from fpdm.runs.progress import Progress

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

RECIPE = "training.json"
AUTOENCODER = OutputFolder("train-autoencoder", RECIPE, frozenset({"shape", "train"}), frozenset({RECIPE, METRICS}))


@configuration
class AutoencoderShape:
    """Shape of a small `AutoencoderKL`.

    Attributes:
        stage_channels: Channels of each stage, finest first. Every stage halves height and width, so n stages reduce
            them by a factor of 2^(n - 1). Most of the compute is in the finest two.
        layers: Residual blocks per stage of the encoder; a stage of the decoder has one more.
        latent_channels: Channels of the latents.
        groups: Groups of the group normalisation. With few groups, the layers see more of an image's brightness.
        attention: Use self-attention at the coarsest resolution.
        pad: Black pixels added to each side of an image, for sizes that the factor does not divide. The saved
            autoencoder pads by itself.

    Raises:
        ValueError: A field outside its range, or channels that do not divide into the groups.
    """

    stage_channels: Annotated[tuple[PositiveInt, ...], MinLen(1), MaxLen(16)] = (16, 32, 64)
    layers: Annotated[PositiveInt, Le(1024)] = 1
    latent_channels: PositiveInt = 4
    groups: PositiveInt = 1
    attention: bool = False
    pad: Annotated[NonNegativeInt, Le(2**16)] = 0

    def __post_init__(self) -> None:
        if any(n % self.groups for n in self.stage_channels):
            raise ValueError(
                f"stage_channels is {self.stage_channels}; expected one number or more, each a multiple of groups "
                f"({self.groups})"
            )

    @property
    def factor(self) -> int:
        """Factor by which height and width of a latent are smaller than those of an image."""
        return 2 ** (len(self.stage_channels) - 1)

    def latent_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape (c, h, w) of the latents of images (C, H, W).

        Raises:
            ValueError: The padded height or width is not divisible by the factor.
        """
        sides = [side + 2 * self.pad for side in image[1:]]
        if any(side % self.factor for side in sides):
            fits = next(
                (pad for pad in range(self.factor) if all((side + 2 * pad) % self.factor == 0 for side in image[1:])),
                None,
            )
            hint = "other images" if fits is None else f"--pad {fits}"
            raise ValueError(
                f"images of {image[1]} x {image[2]} pixels, padded by {self.pad}, are not divisible by the factor "
                f"{self.factor} of {len(self.stage_channels)} stages; expected {hint} or fewer stages"
            )
        return self.latent_channels, sides[0] // self.factor, sides[1] // self.factor

    def training_memory(self, image: tuple[int, int, int], samples: int) -> int:
        """Return the bytes that a training step on so many images (C, H, W) takes, counted low.

        Counted are the convolutions of the residual blocks and those from and to the latents, and what the residual
        blocks of the finest stage keep for their backward pass.
        """
        *_, last = channels = self.stage_channels
        weights = sum(9 * 4 * self.layers * c**2 for c in channels) + 27 * last * self.latent_channels
        weights += 5 * self.latent_channels**2
        kept = 6 * (2 * self.layers + 1) * channels[0] * math.prod(side + 2 * self.pad for side in image[1:])
        return 4 * (4 * weights + max(weights, samples * kept))  # weights, averages, two moments; gradients

    def build(self, image: tuple[int, int, int]) -> AutoencoderKL:
        """Create the network for images (C, H, W), with weights from PyTorch's random numbers.

        Raises:
            ValueError: The padded height or width is not divisible by the factor.
        """
        from diffusers import AutoencoderKL  # slow to import, and only needed here

        self.latent_shape(image)
        channels, height, width = image
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * len(self.stage_channels),  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * len(self.stage_channels),  # type: ignore[arg-type]
            block_out_channels=self.stage_channels,  # type: ignore[arg-type]
            layers_per_block=self.layers,
            latent_channels=self.latent_channels,
            norm_num_groups=self.groups,
            sample_size=max(height, width) + 2 * self.pad,
            mid_block_add_attention=self.attention,
            scaling_factor=1.0,  # until it is measured
            force_upcast=False,
        )


@configuration
class AutoencoderTrainConfig:
    """How to train an autoencoder.

    Attributes:
        steps: Number of optimiser steps; 0 for no limit.
        seconds: Seconds of training steps on this machine, without checkpoints and pauses; 0 for no limit.
        batch_size: Images per step.
        learning_rate: Learning rate after the warm-up.
        warmup: Steps over which the learning rate rises linearly.
        decay: Learning rate after the warm-up: "cosine" falls to 0 at the end, "constant" does not change.
        weight_decay: Weight decay of AdamW.
        clip_norm: Maximum norm of the gradient; larger gradients are scaled down.
        ema_decay: Decay of the averaged weights, which are the ones saved; reached by the warm-up of diffusers, (1 + s)
            / (10 + s).
        reconstruction: Error between an image and its reconstruction: "l1" or "l2".
        kl_weight: Weight of the KL divergence, summed over the latents of an image, against the error, summed over its
            pixels and channels (Rombach et al. 2022). Both sums are divided by the number of pixels and channels, whose
            values are in [-1, 1].
        seed: Seed of the run. Everything random is a function of it.
        checkpoint_every: Steps between two checkpoints; 0 saves only at the end.
        keep: Number of checkpoints to keep, at least 2.
        log_every: Steps between two rows of metrics.jsonl.

    Raises:
        ValueError: A field outside its range.
    """

    steps: NonNegativeInt = 10_000
    seconds: NonNegativeNumber = 0.0
    batch_size: BatchSize = 32
    learning_rate: PositiveNumber = 2e-3
    warmup: NonNegativeInt = 100
    decay: Literal["cosine", "constant"] = "cosine"
    weight_decay: NonNegativeNumber = 0.0
    clip_norm: PositiveNumber = 1.0
    ema_decay: Share = 0.999
    reconstruction: Literal["l1", "l2"] = "l2"
    kl_weight: NonNegativeNumber = 1e-6
    seed: Seed = 0
    checkpoint_every: NonNegativeInt = 500
    keep: Annotated[PositiveInt, Ge(2)] = 2
    log_every: PositiveInt = 20

    def __post_init__(self) -> None:
        if not (self.steps or self.seconds):
            raise ValueError("steps and seconds are both 0; give one of them, or training never ends")

    def share_done(self, progress: Progress) -> float:
        """Return the share of the training that is done, by the nearest limit; 1 or more at the end."""
        shares = [progress.step / self.steps] if self.steps else []
        shares += [progress.seconds / self.seconds] if self.seconds else []
        return max(shares)

    def rate(self, progress: Progress) -> float:
        """Return the learning rate of the step that follows `progress`."""
        rising = min(1.0, (progress.step + 1) / max(self.warmup, 1))
        falling = (
            0.5 * (1.0 + math.cos(math.pi * min(self.share_done(progress), 1.0))) if self.decay == "cosine" else 1.0
        )
        return self.learning_rate * rising * falling


@configuration
class AutoencoderRecipe(Record):
    """Complete configuration of an autoencoder's training.

    Attributes:
        data: Images to train on.
        shape: Shape of the network.
        train: How to train it.
        images: `Dataset.sha256` of the images.
    """

    data: DataConfig
    shape: AutoencoderShape
    train: AutoencoderTrainConfig
    images: str

    @classmethod
    def read(cls, path: Path) -> AutoencoderRecipe:
        """Read a recipe from a file.

        Raises:
            OSError: There is no such file, or it cannot be read.
            ValueError: The file is not a recipe.
        """
        try:
            return read_dataclass(path, cls)
        except ValueError as error:
            raise ValueError(f"{error}; choose another folder") from error

    def changes(self, before: AutoencoderRecipe) -> list[str]:
        """List the differences to the recipe of a training that is to be resumed, as "field: old -> new".

        How often to save and to log may change, and so may the path of the images, whose hash is compared instead.
        """
        return differences(before, self, {"train.checkpoint_every", "train.keep", "train.log_every"}, PLACES)


PLACES = {"data.source": "images"}
"""Fields that say where something is, each with the field that has the hash of its content."""
