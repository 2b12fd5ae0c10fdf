"""Pixels or latents behind one interface."""

from __future__ import annotations

import abc
from typing import NamedTuple

import torch
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig

BLACK = -1.0


class Posterior(NamedTuple):
    """A normal distribution of latents for each image.

    Attributes:
        mean: (B, c, h, w).
        std: (B, c, h, w); 0 where an image has one latent only.
    """

    mean: Tensor
    std: Tensor


class Autoencoder(abc.ABC):
    """From images in [-1, 1] to what a denoiser works on, and back.

    Attributes:
        config: What it is, nothing left open.
        clip: The bound of every latent's size, to which samplers clip their estimates of x0; None if there is none.
        sha256: Of its configuration and weights; empty for pixels.
    """

    config: AutoencoderConfig
    clip: float | None
    sha256: str

    @abc.abstractmethod
    def latent_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of images (C, H, W).

        Raises:
            ValueError: Such images do not fit.
        """

    @abc.abstractmethod
    def image_shape(self, latent: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the images of latents (c, h, w).

        Raises:
            ValueError: Such latents are not of this autoencoder.
        """

    @abc.abstractmethod
    def encode(self, images: Tensor) -> Posterior:
        """Images (B, C, H, W) in [-1, 1] to latents (B, c, h, w); no gradient."""

    @abc.abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) to images (B, C, H, W), about within [-1, 1]; no gradient."""

    @abc.abstractmethod
    def decoding_macs(self, latent: tuple[int, int, int]) -> int:
        """Multiply-accumulates of decoding one image from latents (c, h, w)."""


class Pixels(Autoencoder):
    """No autoencoder: the latents are the images."""

    config = AutoencoderConfig()
    clip = 1.0
    sha256 = ""

    def latent_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """The same."""
        return image

    def image_shape(self, latent: tuple[int, int, int]) -> tuple[int, int, int]:
        """The same."""
        if latent[0] not in (1, 3):
            raise ValueError(
                f"this model makes {latent[0]} channels, so latents; expected 1 (grey) or 3 (RGB), or the autoencoder "
                "that the latents are of"
            )
        return latent

    def decoding_macs(self, latent: tuple[int, int, int]) -> int:
        """None."""
        return 0

    def encode(self, images: Tensor) -> Posterior:
        """The images themselves, (B, C, H, W), without spread."""
        return Posterior(images, torch.zeros_like(images))

    def decode(self, latents: Tensor) -> Tensor:
        """The same, (B, C, H, W)."""
        return latents
