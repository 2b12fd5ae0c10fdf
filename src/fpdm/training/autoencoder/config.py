"""What the training of an autoencoder is, in frozen dataclasses that JSON holds."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fpdm.data.config import DataConfig
from fpdm.runs.progress import Progress

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@dataclass(frozen=True)
class AutoencoderShape:
    """A small `AutoencoderKL`.

    Attributes:
        stage_channels: Channels of each stage, the finest first. Each stage halves the sides of the one before, so n
            stages are a factor of 2^(n - 1). Most of the compute is in the finest two.
        layers: Residual blocks in a stage of the encoder; in one of the decoder there is one more.
        latent_channels: Channels of the latents.
        groups: Of group normalisation. Few of them leave more of the images' brightness for the layers to see.
        attention: Self-attention at the coarsest resolution.
        pad: Black pixels that each side of an image gets first, for sides that the factor does not divide. The saved
            autoencoder pads by itself.

    Raises:
        ValueError: A field outside its range, or channels that do not divide into the groups.
    """

    stage_channels: tuple[int, ...] = (16, 32, 64)
    layers: int = 1
    latent_channels: int = 4
    groups: int = 1
    attention: bool = False
    pad: int = 0

    def __post_init__(self) -> None:
        _check_integers(self, layers=1, latent_channels=1, groups=1, pad=0)
        if not self.stage_channels or any(n < 1 or n % self.groups for n in self.stage_channels):
            raise ValueError(
                f"stage_channels is {self.stage_channels}; expected one number or more, each a multiple of groups "
                f"({self.groups})"
            )

    @property
    def factor(self) -> int:
        """How much smaller a latent's side is than an image's."""
        return 2 ** (len(self.stage_channels) - 1)

    def latent_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of images (C, H, W).

        Raises:
            ValueError: The padded sides are not divisible by the factor.
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

    def build(self, image: tuple[int, int, int]) -> AutoencoderKL:
        """The network for images (C, H, W), its weights drawn from PyTorch's random numbers.

        Raises:
            ValueError: As `latent_shape`.
        """
        from diffusers import AutoencoderKL  # heavy, and needed for autoencoders alone

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


@dataclass(frozen=True)
class AutoencoderTrainConfig:
    """How to train an autoencoder.

    Attributes:
        steps: Optimiser steps; 0 for no limit.
        seconds: Seconds of training steps on this machine; checkpoints and pauses are not counted. 0 for no limit.
        batch_size: Images per step.
        learning_rate: After the warm-up.
        warmup: Steps over which the learning rate rises linearly.
        decay: What the learning rate does afterwards: "cosine" falls to 0 at the end, "constant" stays.
        weight_decay: AdamW's.
        clip_norm: The gradient's norm is clipped to this.
        ema_decay: Of the averaged weights, which are the ones that are kept; reached by diffusers' warm-up
            (1 + s) / (10 + s).
        reconstruction: The error between image and reconstruction: "l1" or "l2".
        kl_weight: Of the KL divergence, as in latent diffusion (Rombach et al. 2022): of its sum over an image's
            latents, beside the sum of the error over the image's pixels and channels. Both are divided by the number
            of those, so that the loss is the mean error at weight 0. Pixels live in [-1, 1].
        seed: Everything random is a function of it.
        checkpoint_every: Steps between checkpoints; 0 saves at the end only.
        keep: Checkpoints kept, at least 2.
        log_every: Steps between rows of metrics.jsonl.

    Raises:
        ValueError: A field outside its range.
    """

    steps: int = 10_000
    seconds: float = 0.0
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup: int = 100
    decay: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    reconstruction: Literal["l1", "l2"] = "l2"
    kl_weight: float = 1e-6
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 20

    def __post_init__(self) -> None:
        _check_integers(self, steps=0, batch_size=1, warmup=0, seed=0, checkpoint_every=0, keep=2, log_every=1)
        for name in ("seconds", "learning_rate", "weight_decay", "clip_norm", "ema_decay", "kl_weight"):
            value, positive = getattr(self, name), name in ("learning_rate", "clip_norm")
            top = 1.0 if name == "ema_decay" else math.inf
            if not (0.0 <= value < top) or (positive and value == 0.0):
                least = "above 0" if positive else "of at least 0"
                raise ValueError(
                    f"{name} is {value}; expected a finite number {least}{'' if top == math.inf else ' and below 1'}"
                )
        for name, allowed in (("decay", ("cosine", "constant")), ("reconstruction", ("l1", "l2"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        if self.seed >= 2**32:
            raise ValueError(f"seed is {self.seed}; expected an integer below 2^32")
        if not (self.steps or self.seconds):
            raise ValueError("steps and seconds are both 0; give one of them, or training never ends")

    def share_done(self, progress: Progress) -> float:
        """Return the share of the training that is done, by the limit that is nearest; 1 or more at the end."""
        shares = [progress.step / self.steps] if self.steps else []
        shares += [progress.seconds / self.seconds] if self.seconds else []
        return max(shares)

    def rate(self, progress: Progress) -> float:
        """The learning rate of the step to come."""
        rising = min(1.0, (progress.step + 1) / max(self.warmup, 1))
        falling = (
            0.5 * (1.0 + math.cos(math.pi * min(self.share_done(progress), 1.0))) if self.decay == "cosine" else 1.0
        )
        return self.learning_rate * rising * falling


@dataclass(frozen=True)
class AutoencoderRecipe:
    """A complete training of an autoencoder.

    Attributes:
        data: Which images.
        shape: The network.
        train: How to train it.
        images: `Dataset.sha256` of the images.
    """

    data: DataConfig
    shape: AutoencoderShape
    train: AutoencoderTrainConfig
    images: str

    def to_json(self) -> str:
        """As JSON, every field."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    def changed(self, path: Path) -> list[str]:
        """What is another in the recipe that `to_json` wrote into this file, one "field: old -> new" each.

        How often to save and to log may change, and where the images are, whose hash says that they are the same.

        Raises:
            ValueError: The file is no recipe.
        """
        free = {"train.checkpoint_every", "train.keep", "train.log_every", "data.source"}
        try:
            before = _flat(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}); choose another folder") from error
        after = _flat(json.loads(self.to_json()))
        return [
            f"{key}: {before.get(key)} -> {value}"
            for key, value in after.items()
            if key not in free and before.get(key) != value
        ]


def _check_integers(config: object, **least: int) -> None:
    for name, bound in least.items():
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < bound:
            raise ValueError(f"{name} is {value!r}; expected an integer of at least {bound}")


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{group}.{key}" if isinstance(inner, dict) else group: value
        for group, inner in values.items()
        for key, value in (inner.items() if isinstance(inner, dict) else [("", inner)])
    }
