"""What a network is trained on, whether it lies in memory or in a cache."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig


class Examples(abc.ABC):
    """Labelled pixels or latents of one size.

    Attributes:
        name: The data set's name, as results give it.
        labels: (N,) int64, each in 0..num_classes - 1; all 0 if there are no classes.
        num_classes: How many classes there are, whether or not this set has examples of each; 0 for none.
    """

    name: str
    labels: Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one example."""

    @property
    @abc.abstractmethod
    def autoencoder(self) -> AutoencoderConfig:
        """Whose latents these are; by default nobody's, so pixels."""

    @abc.abstractmethod
    def batch(
        self, indices: Sequence[int], draws: Sequence[np.random.Generator] | None = None, *, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The examples at B places.

        Args:
            indices: The places.
            draws: A generator for each place, which draws what is random of it: first whether it is mirrored, if
                `flip`, then the latent, if that has a spread. None for means, as they were stored.
            flip: Mirror left to right with probability one half.

        Returns:
            x0 (B, C, H, W) float32, pixels in [-1, 1]; labels (B,) int64.
        """

    @abc.abstractmethod
    def digest(self, into: hashlib._Hash) -> None:
        """Add everything that the examples are to a hash."""


def mirrored(draws: Sequence[np.random.Generator] | None, count: int, *, flip: bool) -> np.ndarray:
    """Which of `count` examples are mirrored, (B,) bool, a draw from each generator if `flip`."""
    if draws is None or not flip:
        return np.zeros(count, bool)
    return np.array([draw.random() < 0.5 for draw in draws])
