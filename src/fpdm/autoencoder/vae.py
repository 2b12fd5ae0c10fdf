"""The `AutoencoderKL` of diffusers behind our interface.

Latents are always those that a denoiser sees: shifted and scaled as the autoencoder's configuration says, so that their
standard deviation is about 1 (Rombach et al. 2022, App. G).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fpdm.autoencoder.config import OWN, AutoencoderConfig, Precision
from fpdm.autoencoder.interface import BLACK, Autoencoder, LatentDistribution, Pixels
from fpdm.configuration import parse_json
from fpdm.errors import RunError
from fpdm.files import read_json
from fpdm.hub import download, is_hub_id

_PIXELS = 2**20  # at once, by default; the decoder of Stable Diffusion takes about 10 kB for each
_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class VAE(Autoencoder):
    """The `AutoencoderKL` of diffusers.

    Args:
        model: The network, on the device and in the precision to use.
        config: Complete configuration of the autoencoder.
        batch_size: Images per call of the network; 0 for as many as have 2^20 pixels.
        device: Device that the network is on while it runs, if it is elsewhere at other times (CPU offload).

    Raises:
        ValueError: The network has no finite scaling factor.
    """

    clip = None

    def __init__(
        self,
        model: torch.nn.Module,
        config: AutoencoderConfig,
        *,
        batch_size: int = 0,
        device: torch.device | None = None,
    ) -> None:
        assert config.sha256
        assert config.pad is not None
        self.model, self.config, self.batch_size = model.eval().requires_grad_(False), config, batch_size
        self.pad, self.sha256, self.device = config.pad, config.sha256, device
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
                network = getattr(self.model, "_orig_mod", self.model)  # not the wrapper of torch.compile
                model: Any = type(network).from_config(network.config)  # type: ignore[attr-defined]
                with FlopCounterMode(display=False) as counter:
                    model.decode(torch.empty(1, *latent))
            self._macs[latent] = counter.get_total_flops() // 2
        return self._macs[latent]

    def _parts(self, tensor: Tensor, factor: int) -> tuple[Tensor, ...]:
        """Split into batches; an image's sides are `factor` times those of `tensor`."""
        pixels = factor**2 * tensor[0, 0].numel()
        tensor = tensor.to(self.device or self.model.device, self.model.dtype)  # type: ignore[arg-type]
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


CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def kl_folder(source: str) -> Path:
    """Return the folder of an `AutoencoderKL`, or of the one in a pipeline, without loading it.

    Args:
        source: Hub id, from which the files are downloaded, or folder in the hub's layout.

    Raises:
        ValueError: There is none, or it is something else.
    """
    places, folder = ("vae", ""), Path(source)
    if not folder.exists():
        if not is_hub_id(source):
            raise ValueError(f"the autoencoder {source} does not exist; expected a folder or a name on the hub")
        folder = download(source, [f"{place}/{file}".lstrip("/") for place in places for file in (CONFIG, WEIGHTS)])
    found = next((folder / place for place in places if (folder / place / CONFIG).is_file()), None)
    if found is None:
        raise ValueError(
            f"there is no autoencoder in {source}: no config.json; expected the folder of an AutoencoderKL"
        )
    try:
        settings = parse_json((found / CONFIG).read_text(encoding="utf-8"), CONFIG)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no autoencoder can be loaded from {source}: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"no autoencoder can be loaded from {source}: its config.json is not an object")
    kind = settings.get("_class_name", _KIND)
    if kind != _KIND:
        raise ValueError(f"{source} holds a model of the class {kind}, not an AutoencoderKL; fpdm takes no other")
    if settings.get("quantization_config") is not None:
        raise ValueError(f"the autoencoder in {source} is quantised; expected its original weights")
    if not (found / WEIGHTS).is_file():
        raise ValueError(f"no autoencoder can be loaded from {source}: it has no {WEIGHTS}; expected its weights there")
    return found


_KIND, _FLOATS = "AutoencoderKL", {"F64", "F32", "F16", "BF16"}
# What networks raise at impossible values in a config.json: norm_num_groups of 0 is a division by zero.
_BROKEN = (OSError, ValueError, KeyError, TypeError, ArithmeticError, AttributeError, RuntimeError, SafetensorError)


def _load_kl(source: str) -> torch.nn.Module:
    folder = kl_folder(source)
    from diffusers import AutoencoderKL  # slow to import, and needed for latents only

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # lists of weights that are missing, of which we say the first ones
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()} - _FLOATS  # noqa: SIM118  # no mapping
        if kinds:
            raise ValueError(f"its weights are {' and '.join(sorted(kinds))}, not floating-point numbers")
        with torch.random.fork_rng(devices=[]):  # a network draws weights before it gets the saved ones
            loaded: Any = AutoencoderKL.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
            model, info = loaded
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"no autoencoder can be loaded from {source}: {reason}; expected the config.json and the safetensors of an "
            "AutoencoderKL"
        ) from error
    finally:
        logging.disable(before)
    wrong = [f"{key} is missing" for key in info["missing_keys"]]  # which diffusers would leave random
    wrong += [f"{key} is unknown" for key in info["unexpected_keys"]]
    if wrong:
        raise ValueError(
            f"the weights in {source} are not of the AutoencoderKL that its config.json describes: "
            f"{'; '.join(wrong[:3])} ({len(wrong)} in all)"
        )
    return model


def _pad(source: str) -> int:
    path = Path(source) / OWN
    if not path.is_file():
        return 0
    values = read_json(path)
    if "pad" not in values:
        raise ValueError(f'{path} lacks pad; expected {{"pad": 2}}, say')
    try:
        return AutoencoderConfig(source, pad=values["pad"]).pad or 0
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _normalisation(settings: Any, source: str) -> tuple[Tensor, Tensor]:
    """Latents are normalised as (raw - shift) * scale; some autoencoders do so by channel as well."""
    scale, shift = settings.scaling_factor, getattr(settings, "shift_factor", None) or 0.0
    if not isinstance(scale, (int, float)) or not 0.0 < scale < float("inf"):
        raise ValueError(f"the autoencoder in {source} has scaling_factor {scale}; expected a number above 0")
    if not isinstance(shift, (int, float)) or not math.isfinite(shift):
        raise ValueError(f"the autoencoder in {source} has shift_factor {shift!r}; expected a number")
    mean, std = (getattr(settings, name, None) for name in ("latents_mean", "latents_std"))
    for name, values in (("latents_mean", mean), ("latents_std", std)):
        numbers = isinstance(values, (list, tuple)) and len(values) == settings.latent_channels
        if values is not None and not (numbers and all(isinstance(one, (int, float)) for one in values)):
            raise ValueError(
                f"the autoencoder in {source} has {name} {values!r}; expected {settings.latent_channels} numbers"
            )
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
