"""The interface of data sets, in memory or in a cache."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fpdm.autoencoder.config import AutoencoderConfig


class Examples(abc.ABC):
    """A set of labelled pixels or latents of one size.

    Attributes:
        name: The data set's name in results.
        labels: (N,) int64, each in 0..num_classes - 1; all 0 if there are no classes.
        num_classes: Number of classes, including those without examples in this set; 0 if there are none.
    """

    name: str
    labels: Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Shape of one example, (C, H, W)."""

    @property
    @abc.abstractmethod
    def autoencoder(self) -> AutoencoderConfig:
        """The autoencoder that encoded the examples; an empty configuration for pixels."""

    @abc.abstractmethod
    def batch(
        self, indices: Sequence[int], draws: Sequence[np.random.Generator] | None = None, *, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return B examples.

        Args:
            indices: Indices of the examples.
            draws: A generator for each example, which draws first whether it is mirrored, if `flip`, then the latent,
                if it has a distribution. None returns the means, not mirrored.
            flip: Mirror left to right with probability one half.

        Returns:
            x0 (B, C, H, W) float32, pixels in [-1, 1]; labels (B,) int64.
        """

    @abc.abstractmethod
    def digest(self, into: hashlib._Hash) -> None:
        """Add everything that the examples consist of to a hash."""


def mirrored(draws: Sequence[np.random.Generator] | None, count: int, *, flip: bool) -> np.ndarray:
    """Return which of `count` examples are mirrored, (B,) bool; with `flip`, one draw from each generator."""
    if draws is None or not flip:
        return np.zeros(count, bool)
    return np.array([draw.random() < 0.5 for draw in draws])
