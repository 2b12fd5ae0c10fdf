"""Which autoencoder the latents of a model belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from fpdm.configuration import NonNegativeInt, configuration

if TYPE_CHECKING:
    import torch

    from fpdm.autoencoder.interface import Autoencoder

OWN = "fpdm.json"
"""Beside an autoencoder's config.json: what `AutoencoderKL` has no word for, the padding."""

Precision = Literal["fp32", "bf16", "fp16"]


@configuration
class AutoencoderConfig:
    """Which autoencoder a model's latents are of.

    Attributes:
        source: Name on the hub, or folder in the hub's layout, of an `AutoencoderKL`; empty for pixels.
        sha256: `Autoencoder.sha256` of it; empty for whatever the source holds.
        pad: Black pixels that each side of an image gets before it is encoded, and loses after it is decoded. None
            takes what a folder says in its `fpdm.json`, as those of fpdm train-autoencoder do, and else 0.

    Raises:
        ValueError: A negative `pad`, or one without an autoencoder.
    """

    source: Annotated[str, "a name on the hub or a folder"] = ""
    sha256: str = ""
    pad: Annotated[NonNegativeInt | None, "0 or more pixels"] = None

    def __post_init__(self) -> None:
        if self.pad and not self.source:
            raise ValueError(f"pad is {self.pad} without an autoencoder; expected 0")

    def load(
        self,
        device: torch.device | str = "cpu",
        *,
        source: str = "",
        precision: Precision = "fp32",
        batch_size: int = 0,
        tiling: bool = False,
    ) -> Autoencoder:
        """Load it.

        Args:
            device: Where it is to work.
            source: Where it is now, if it has moved since.
            precision: What it computes in; images and latents are float32 outside of it.
            batch_size: Images that go through it at once, 1 for least memory; 0 for as many as have 2^20 pixels, 16 of
                256 x 256.
            tiling: Cut images larger than those that it was trained on into overlapping tiles of that size: less
                memory, and seams that can show.

        Raises:
            ValueError: It cannot be loaded, or is another than `sha256` says.
        """
        from fpdm.autoencoder.vae import load_autoencoder  # PyTorch: a configuration is read without it

        return load_autoencoder(self, device, source, precision, batch_size, tiling)
