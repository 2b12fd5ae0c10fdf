"""The interface of autoencoders, and pixels as the one that does nothing."""

from __future__ import annotations

import abc
from typing import NamedTuple

import torch
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig

BLACK = -1.0


class LatentDistribution(NamedTuple):
    """Normal distribution of the latents of each image.

    Attributes:
        mean: Mean, (B, c, h, w).
        std: Standard deviation, (B, c, h, w); 0 if encoding is deterministic.
    """

    mean: Tensor
    std: Tensor


class Autoencoder(abc.ABC):
    """Map from images in [-1, 1] to the latents that a denoiser works on, and back.

    Attributes:
        config: Complete configuration of the autoencoder.
        clip: Bound on the absolute value of latents, to which samplers clip their estimates of x0; None for no bound.
        sha256: SHA-256 of the configuration and the weights; empty for pixels.
    """

    config: AutoencoderConfig
    clip: float | None
    sha256: str

    @abc.abstractmethod
    def latent_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape (c, h, w) of the latents of images (C, H, W).

        Raises:
            ValueError: The autoencoder cannot encode images of this shape.
        """

    @abc.abstractmethod
    def image_shape(self, latent: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of the images of latents (c, h, w).

        Raises:
            ValueError: The autoencoder has no latents of this shape.
        """

    @abc.abstractmethod
    def encode(self, images: Tensor) -> LatentDistribution:
        """Encode images (B, C, H, W) in [-1, 1] to latents (B, c, h, w), without gradient."""

    @abc.abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, c, h, w) to images (B, C, H, W), approximately in [-1, 1], without gradient."""

    @abc.abstractmethod
    def decoding_macs(self, latent: tuple[int, int, int]) -> int:
        """Count the multiply-accumulates of decoding one image from latents (c, h, w)."""


class Pixels(Autoencoder):
    """No autoencoder: the images are the latents."""

    config = AutoencoderConfig()
    clip = 1.0
    sha256 = ""

    def latent_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        return image

    def image_shape(self, latent: tuple[int, int, int]) -> tuple[int, int, int]:
        if latent[0] not in (1, 3):
            raise ValueError(
                f"the model makes {latent[0]} channels; expected 1 (grey) or 3 (RGB), or the autoencoder of its latents"
            )
        return latent

    def decoding_macs(self, latent: tuple[int, int, int]) -> int:
        return 0

    def encode(self, images: Tensor) -> LatentDistribution:
        return LatentDistribution(images, torch.zeros_like(images))  # (B, C, H, W) each

    def decode(self, latents: Tensor) -> Tensor:
        return latents
