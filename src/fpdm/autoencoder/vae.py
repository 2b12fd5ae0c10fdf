"""The `AutoencoderKL` of diffusers behind our interface.

Latents are always those that a denoiser sees: shifted and scaled as the autoencoder's configuration says, so that their
standard deviation is about 1 (Rombach et al. 2022, App. G).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fpdm.autoencoder.config import OWN, AutoencoderConfig, Precision
from fpdm.autoencoder.interface import BLACK, Autoencoder, LatentDistribution, Pixels
from fpdm.errors import RunError
from fpdm.files import read_json

_PIXELS = 2**20  # at once, by default; the decoder of Stable Diffusion takes about 10 kB for each
_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class VAE(Autoencoder):
    """The `AutoencoderKL` of diffusers.

    Args:
        model: The network, on the device and in the precision to use.
        config: Complete configuration of the autoencoder.
        batch_size: Images per call of the network; 0 for as many as have 2^20 pixels.

    Raises:
        ValueError: The network has no finite scaling factor.
    """

    clip = None

    def __init__(self, model: torch.nn.Module, config: AutoencoderConfig, *, batch_size: int = 0) -> None:
        assert config.sha256
        assert config.pad is not None
        self.model, self.config, self.batch_size = model.eval().requires_grad_(False), config, batch_size
        self.pad, self.sha256 = config.pad, config.sha256
        settings: Any = model.config
        self.image_channels, self.channels = settings.in_channels, settings.latent_channels
        self.factor = 2 ** (len(settings.block_out_channels) - 1)
        self._macs: dict[tuple[int, int, int], int] = {}  # by latent shape
        self.scale, self.shift = _normalisation(settings, config.source)  # (1 or c, 1, 1) each

    @classmethod
    def of(cls, model: torch.nn.Module, *, source: str, pad: int = 0, batch_size: int = 0) -> VAE:
        """Wrap a network that is already in memory; messages call it `source`."""
        return cls(model, AutoencoderConfig(source, _hash(model), pad), batch_size=batch_size)

    def latent_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, *sides = image
        padded = [side + 2 * self.pad for side in sides]
        if channels != self.image_channels:
            raise ValueError(f"the autoencoder takes {self.image_channels} channels; the images have {channels}")
        if any(side % self.factor for side in padded):
            padding = f" (with {self.pad} pixels of padding on every side)" if self.pad else ""
            raise ValueError(
                f"images of {' x '.join(map(str, sides))} pixels{padding} are not divisible by the autoencoder's "
                f"factor of {self.factor}"
            )
        return self.channels, padded[0] // self.factor, padded[1] // self.factor

    def image_shape(self, latent: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, *sides = latent
        if channels != self.channels:
            raise ValueError(
                f"the autoencoder in {self.config.source} has latents of {self.channels} channels; the model makes "
                f"{channels}"
            )
        height, width = (side * self.factor - 2 * self.pad for side in sides)
        return self.image_channels, height, width

    @torch.no_grad()
    def encode(self, images: Tensor) -> LatentDistribution:
        images = F.pad(images, [self.pad] * 4, value=BLACK)  # (B, C, H + 2p, W + 2p)
        parts = [self.model.encode(part).latent_dist for part in self._parts(images, 1)]  # type: ignore[operator]
        mean = self._join([part.mean for part in parts])  # (B, c, h, w)
        std = self._join([part.std for part in parts])  # (B, c, h, w)
        return LatentDistribution((mean - self.shift.to(mean)) * self.scale.to(mean), std * self.scale.to(std))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        raw = latents / self.scale.to(latents) + self.shift.to(latents)  # (B, c, h, w)
        images = self._join([self.model.decode(part).sample for part in self._parts(raw, self.factor)])  # type: ignore[operator]
        return F.pad(images, [-self.pad] * 4)  # (B, C, H, W)

    def decoding_macs(self, latent: tuple[int, int, int]) -> int:
        """Count the MACs of convolutions, linear layers and attention; normalisation and activations are left out."""
        if latent not in self._macs:
            with torch.device("meta"):  # shapes without numbers: nothing is computed
                model: Any = type(self.model).from_config(self.model.config)  # type: ignore[attr-defined]
                with FlopCounterMode(display=False) as counter:
                    model.decode(torch.empty(1, *latent))
            self._macs[latent] = counter.get_total_flops() // 2
        return self._macs[latent]

    def _parts(self, tensor: Tensor, factor: int) -> tuple[Tensor, ...]:
        """Split into batches; an image's sides are `factor` times those of `tensor`."""
        pixels = factor**2 * tensor[0, 0].numel()
        tensor = tensor.to(self.model.device, self.model.dtype)  # type: ignore[arg-type]
        return tensor.split(self.batch_size or max(1, _PIXELS // pixels))

    def _join(self, parts: list[Tensor]) -> Tensor:
        whole = torch.cat(parts).float()
        if self.model.dtype != torch.float32 and not bool(whole.isfinite().all()):
            raise RunError(f"the autoencoder in {self.config.source} gives nan or inf in {self.model.dtype}; use fp32")
        return whole


def load_autoencoder(
    config: AutoencoderConfig,
    device: torch.device | str,
    source: str,
    precision: Precision,
    batch_size: int,
    tiling: bool,
) -> Autoencoder:
    """Load the autoencoder of a configuration, as `AutoencoderConfig.load` describes."""
    if not config.source:
        return Pixels()
    where = source or config.source
    model = _load_kl(where)
    found = _hash(model)
    if config.sha256 and found != config.sha256:
        raise ValueError(
            f"the autoencoder in {where} has sha256 {found[:12]}; expected {config.sha256[:12]}, that of the "
            "latents: give the one that made them"
        )
    if tiling:
        model.enable_tiling()  # type: ignore[operator]
    complete = replace(config, source=where, sha256=found, pad=_pad(where) if config.pad is None else config.pad)
    # Not diffusers' `to`, which warns of modules to be left in float32 though it names none.
    torch.nn.Module.to(model, device, _DTYPES[precision])
    return VAE(model, complete, batch_size=batch_size)


# What networks raise at impossible values in a config.json: norm_num_groups of 0 is a division by zero.
_BROKEN = (OSError, ValueError, KeyError, TypeError, ArithmeticError, AttributeError, RuntimeError, SafetensorError)


def _load_kl(source: str) -> torch.nn.Module:
    from diffusers import AutoencoderKL  # slow to import, and needed for latents only

    local = Path(source)
    folders = ["", "vae"]  # an autoencoder, or a pipeline that has one
    if local.is_dir():
        folders = ["vae"] if (local / "vae" / "config.json").is_file() else [""]
    reasons = []
    for folder in folders:
        try:
            with torch.random.fork_rng(devices=[]):  # a network draws weights before it gets the saved ones
                loaded: Any = AutoencoderKL.from_pretrained(
                    source, subfolder=folder or None, use_safetensors=True, output_loading_info=True
                )
                model, info = loaded
        except _BROKEN as error:
            reasons.append(" ".join(str(error).split())[:200])
            continue
        wrong = [f"{key} is missing" for key in info["missing_keys"]]  # which diffusers would leave random
        wrong += [f"{key} is unknown" for key in info["unexpected_keys"]]
        if wrong:
            raise ValueError(
                f"the weights in {source} are not of the AutoencoderKL that its config.json describes: "
                f"{'; '.join(wrong[:3])} ({len(wrong)} in all)"
            )
        return model
    raise ValueError(
        f"no autoencoder can be loaded from {source}: {reasons[0]}; expected a name on the hub, or a folder with the "
        "config.json and the safetensors of an AutoencoderKL"
    )


def _pad(source: str) -> int:
    path = Path(source) / OWN
    if not path.is_file():
        return 0
    values = read_json(path)
    if "pad" not in values:
        raise ValueError(f'{path} lacks pad; expected {{"pad": 2}}, say')
    return AutoencoderConfig(source, pad=values["pad"]).pad or 0


def _normalisation(settings: Any, source: str) -> tuple[Tensor, Tensor]:
    """Latents are normalised as (raw - shift) * scale; some autoencoders do so by channel as well."""
    scale, shift = settings.scaling_factor, getattr(settings, "shift_factor", None) or 0.0
    if not isinstance(scale, (int, float)) or not 0.0 < scale < float("inf"):
        raise ValueError(f"the autoencoder in {source} has scaling_factor {scale}; expected a number above 0")
    mean, std = (getattr(settings, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return torch.tensor(scale).view(1, 1, 1), torch.tensor(shift).view(1, 1, 1)
    return scale / torch.tensor(std).view(-1, 1, 1), torch.tensor(mean).view(-1, 1, 1)


# What changes latents or images besides the weights; a later diffusers may have more settings.
_HASHED = ("layers_per_block", "act_fn", "norm_num_groups", "scaling_factor", "shift_factor")
_HASHED += ("latents_mean", "latents_std")


def _hash(model: torch.nn.Module) -> str:
    settings: Any = model.config
    digest = hashlib.sha256(json.dumps([settings.get(key) for key in _HASHED]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"the autoencoder's {name} holds nan or inf; expected one that is trained")
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
