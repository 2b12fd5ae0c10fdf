"""Configuration of the autoencoder that a model's latents belong to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Le

from fpdm.configuration import NonNegativeInt, configuration

if TYPE_CHECKING:
    import torch

    from fpdm.autoencoder.interface import Autoencoder

OWN = "fpdm.json"
"""File beside an autoencoder's config.json with the padding, which `AutoencoderKL` cannot express."""

Precision = Literal["fp32", "bf16", "fp16"]


@configuration
class AutoencoderConfig:
    """The autoencoder that a model's latents belong to.

    Attributes:
        source: Hub id, or folder in the hub's layout, of an `AutoencoderKL`; empty for pixels.
        sha256: Expected `Autoencoder.sha256`; empty to accept any.
        pad: Black pixels added to each side of an image before encoding, and removed after decoding. None reads the
            number from the `fpdm.json` in the folder, which fpdm train-autoencoder writes, and is 0 without that file.

    Raises:
        ValueError: `pad` is negative, or given without an autoencoder.
    """

    source: Annotated[str, "a name on the hub or a folder"] = ""
    sha256: str = ""
    pad: Annotated[Annotated[NonNegativeInt, Le(2**16)] | None, "0 to 65,536 pixels"] = None

    def __post_init__(self) -> None:
        if self.pad and not self.source:
            raise ValueError(f"pad is {self.pad} without an autoencoder; expected 0")

    def moved_to(self, source: str) -> AutoencoderConfig:
        """Return the same autoencoder in another place.

        Args:
            source: Hub id or folder.

        Raises:
            ValueError: There is another autoencoder, or none; or this is that of pixels.
        """
        if not self.source:
            raise ValueError(f"--autoencoder is {source}, but the images are pixels; leave it out")
        source = os.path.realpath(source) if Path(source).exists() else source  # valid from any working directory
        self.load(source=source)
        return replace(self, source=source)

    def load(
        self,
        device: torch.device | str = "cpu",
        *,
        source: str = "",
        precision: Precision = "fp32",
        batch_size: int = 0,
        tiling: bool = False,
    ) -> Autoencoder:
        """Load the autoencoder.

        Args:
            device: Device to run on.
            source: Hub id or folder, if it is no longer where `source` says.
            precision: Precision of the network; images and latents are always float32.
            batch_size: Images per call of the network, 1 for the least memory; 0 for as many as have 2^20 pixels (16 of
                256 x 256).
            tiling: Cut images larger than the training images into overlapping tiles, which needs less memory but can
                show seams.

        Raises:
            ValueError: The autoencoder cannot be loaded, or it is not the one that `sha256` says.
        """
        from fpdm.autoencoder.vae import load_autoencoder  # PyTorch: a configuration is read without it

        return load_autoencoder(self, device, source, precision, batch_size, tiling)
