"""Recipes: functions that return complete frozen configurations."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import DataConfig
from fpdm.data.manifest import read_manifest
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import did_you_mean
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.cost import model_cost
from fpdm.runs.recipe import Recipe
from fpdm.runs.train_config import TrainConfig

FOLDER, CACHE = "FOLDER", "CACHE"  # what stands for the folder of images, or of latents, until it is given
BLOCKS = 28  # of the small DiTs, as of DiT-XL


def digits(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """Handwritten digits of scikit-learn, 8 x 8 pixels, 10 classes: trains in minutes on a laptop."""
    shape = preset("fpdm-digits")
    return _small("digits", data or DataConfig("digits"), shape, model, TrainConfig(steps=4000, **_SMALL_TRAINING))


def fashion_mnist(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """Fashion-MNIST, 28 x 28 pixels, 10 classes, 16 tokens."""
    shape = preset("fpdm-fashion")
    train = TrainConfig(steps=20_000, **_SMALL_TRAINING)
    return _small("fashion", data or DataConfig("fashion-mnist"), shape, model, train)


def folder(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """A folder of images or latents, as near to 64 tokens as their size allows; classes are known when it is read."""
    if data is None or not data.is_folder:
        raise ValueError("the recipe folder needs a folder of images; name it as the data")
    path = Path(os.path.realpath(data.source))
    channels, size, _ = read_manifest(path).shape if data.is_cache else (data.channels, data.size, data.size)
    patches = [patch for patch in range(1, size + 1) if size % patch == 0]  # of a prime side the whole image is one
    shape = replace(
        preset("fpdm-fashion"),
        image_size=size,
        in_channels=channels,
        num_classes=0,
        patch_size=min(patches, key=lambda patch: abs(math.log(size // patch / 8))),
    )
    train = TrainConfig(steps=10_000, **_SMALL_TRAINING)
    source = data.source if data.source == FOLDER else str(path)
    return _small(path.name, replace(data, source=source), shape, model, train)


# N = M = 3, the best of the paper's Table 3 at equal training time; the rate suits these widths.
_SMALL_TRAINING = {
    "batch_size": 128,
    "learning_rate": 1e-3,
    "warmup": 100,
    "ema_decay": 0.999,
    "no_grad_iters": 3,
    "grad_iters": 3,
    "checkpoint_every": 500,
}


def _small(name: str, data: DataConfig, base: TransformerConfig, model: str, train: TrainConfig) -> Recipe:
    network, train = _chosen(base, model, train)
    return Recipe(f"{model}-{name}", data, network, train)


def _chosen(base: TransformerConfig, model: str, train: TrainConfig) -> tuple[TransformerConfig, TrainConfig]:
    """The network that `model` names, of `base`'s size, and what it changes of the training."""
    blocks = re.fullmatch(r"(dit|shared)(?:-(\d{1,18}))?", model)
    if model == "fpdm":
        return base, train
    if model == "fpdm-everywhere":
        return replace(base, timestep_everywhere=True), train
    if model == "fpdm-elastic":
        # Mostly a single iteration, and all of them with gradient, into the start too: a step costs little more than a
        # DiT of four blocks, and then learns as it does. The best of four attempts (results/fashion-mnist).
        network = replace(base, timestep_everywhere=True, middle_blocks=2, injection="linear")
        weights = (0.75, 0.15, 0.07, 0.03)
        return network, replace(train, no_grad_iters=0, grad_iters=4, grad_weights=weights, grad_into_start=True)
    if blocks:
        return as_dit(base, int(blocks[2] or BLOCKS), shared=blocks[1] == "shared"), train
    raise ValueError(
        f"there is no model {model!r}; expected fpdm, fpdm-everywhere, fpdm-elastic, dit, or dit-N or shared-N with N "
        "blocks"
    )


# What the paper trains. Where it is silent: "the authors' code", "DiT's code", "derived" from its text, or "ours".
_FULL_TRAINING = TrainConfig(
    batch_size=512,  # Sec. 4.1
    learning_rate=1e-4,  # Sec. 4.1
    warmup=0,  # neither DiT's nor the authors' code has one
    weight_decay=0.0,  # the authors' code, as DiT's
    clip_norm=1.0,  # ours: the authors did not clip
    ema_decay=0.9999,  # the authors' code, as DiT's
    label_dropout=0.1,  # Sec. 4.1; without classes there is nothing to drop
    no_grad_iters=12,  # Sec. 4.1; 3 to 6 are better at equal time in its Tables 3 and 4
    grad_iters=12,  # Sec. 4.1
    weighting="uniform",  # ours: the mean squared error on v, which the last timestep needs (docs/method.md)
    mixed_precision="bf16",  # ours: the authors had V100s, which have none
    activation_checkpointing="all",  # the authors' code
    checkpoint_every=5000,  # ours
    log_every=100,  # the authors' code
    validate_every=0,  # ours: give a cache with a validation split, and a number
    sample_every=5000,  # ours
)
_BETAS = Schedule(num_timesteps=1000, beta_start=1e-4, beta_end=0.02, zero_terminal_snr=True)  # Sec. 4.1
_AUTOENCODER = AutoencoderConfig("stabilityai/sd-vae-ft-ema")  # DiT's code
_DIT_STEPS = {"imagenet": 400_000, "celebahq": 100_000, "ffhq": 100_000, "lsun-church": 100_000}  # Sec. 4.1


def _full_size(name: str, num_classes: int, model: str, data: DataConfig | None) -> Recipe:
    """FPDM-XL/2 and DiT-XL/2 on 32 x 32 x 4 latents of 256-pixel images (paper Sec. 4.1)."""
    # The square crop and the mirroring are those of DiT's code (crop: ADM's).
    data = replace(data or DataConfig(CACHE), size=256, crop="adm", flip=True)
    base = replace(preset("fpdm-xl/2"), num_classes=num_classes)
    dit = as_dit(base, BLOCKS)
    network, train = _chosen(base, model, replace(_FULL_TRAINING, steps=_DIT_STEPS[name]))
    if network != dit:
        # Derived: the paper gives all models the time of so many steps of DiT-XL/2; here it is the same compute.
        macs = model_cost(dit).training_macs(dit.middle_blocks, 0) * train.batch_size * train.steps
        train = replace(train, steps=0, macs=macs)
    return Recipe(f"{model}-{name}-256", data, network, train, _BETAS, _AUTOENCODER)


def imagenet_256(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """ImageNet, 1,000 classes, in 256-pixel latents."""
    return _full_size("imagenet", 1000, model, data)


def celebahq_256(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """CelebA-HQ without classes, in 256-pixel latents."""
    return _full_size("celebahq", 0, model, data)


def ffhq_256(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """FFHQ without classes, in 256-pixel latents."""
    return _full_size("ffhq", 0, model, data)


def lsun_church_256(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """LSUN-Church without classes, in 256-pixel latents."""
    return _full_size("lsun-church", 0, model, data)


def fashion_latents(model: str = "fpdm", data: DataConfig | None = None) -> Recipe:
    """Fashion-MNIST in 8 x 8 x 4 latents, 16 tokens: the way of the full-size recipes at a size for a laptop."""
    base = replace(preset("fpdm-fashion"), image_size=8, in_channels=4, patch_size=2)
    train = TrainConfig(steps=20_000, **_SMALL_TRAINING)
    return _small("fashion-latents", data or DataConfig(CACHE), base, model, train)


RECIPES: dict[str, Callable[[str, DataConfig | None], Recipe]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "folder": folder,
    "fashion-latents": fashion_latents,
    "imagenet-256": imagenet_256,
    "celebahq-256": celebahq_256,
    "ffhq-256": ffhq_256,
    "lsun-church-256": lsun_church_256,
}
"""The recipes by name.

Those that end in 256, and fashion-latents, want a cache made by `fpdm prepare`. Each takes "fpdm" (as published),
"fpdm-everywhere" (pre, post and head see the timestep too), "fpdm-elastic" (that, with a cell of two blocks behind a
linear injection), "dit" (28 blocks), "dit-N", or "shared-N" (one block applied N - 2 times between pre and post).
"""


def make_recipe(name: str, model: str = "fpdm", *, data: DataConfig | None = None, **changes: object) -> Recipe:
    """The recipe with this name, with other images and some fields of its training changed.

    Raises:
        ValueError: No such recipe (the nearest is named) or model, or a value outside its range.
    """
    if name not in RECIPES:
        near = did_you_mean(name, RECIPES)
        raise ValueError(f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}{near}")
    found = RECIPES[name](model, data)
    return replace(found, train=replace(found.train, **changes))  # type: ignore[arg-type]
