"""Pixels: no autoencoder, behind the interface of one."""

from __future__ import annotations

import pytest
import torch

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.interface import Pixels
from tests.autoencoders import images


def test_pixels_are_their_own_latents() -> None:
    pixels = AutoencoderConfig().load()
    x = images()
    posterior = pixels.encode(x)
    assert isinstance(pixels, Pixels)
    assert torch.equal(posterior.mean, x)
    assert not posterior.std.any()
    assert torch.equal(pixels.decode(x), x)
    assert (pixels.latent_shape((3, 5, 7)), pixels.image_shape((1, 5, 7)), pixels.clip) == ((3, 5, 7), (1, 5, 7), 1.0)
    with pytest.raises(ValueError, match="4 channels; expected"):
        pixels.image_shape((4, 8, 8))


def test_decoding_pixels_costs_nothing() -> None:
    assert Pixels().decoding_macs((3, 5, 7)) == 0
