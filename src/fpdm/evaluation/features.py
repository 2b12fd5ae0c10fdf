"""Features of images: what every measure compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """Features of images, and whose they are.

    Attributes:
        values: (N, F) float64, finite.
        extractor: `Extractor.identity` of what made them.

    Raises:
        ValueError: Another shape, or a value that is nan or inf.
    """

    values: Tensor
    extractor: str

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != torch.float64:
            raise ValueError(f"features are {self.values.dtype} {tuple(self.values.shape)}; expected float64 (N, F)")
        bad = int((~self.values.isfinite()).any(dim=1).sum())
        if bad:
            raise ValueError(
                f"the features of {bad} of {len(self.values)} images hold nan or inf; expected finite numbers"
            )

    @property
    def dims(self) -> int:
        """How many features an image has, F."""
        return self.values.shape[1]


class OfAnExtractor(Protocol):
    """Features, or what is computed from them."""

    @property
    def extractor(self) -> str:
        """As `Features.extractor`."""
        ...

    @property
    def dims(self) -> int:
        """As `Features.dims`."""
        ...


def check_comparable(a: OfAnExtractor, b: OfAnExtractor) -> None:
    """Refuse to compare what different extractors made.

    Raises:
        ValueError: Different extractors or numbers of dimensions.
    """
    if a.extractor != b.extractor:
        raise ValueError(
            f"features of {a.extractor!r} cannot be compared with those of {b.extractor!r}; use one extractor for both"
        )
    if a.dims != b.dims:
        raise ValueError(f"features of {a.dims} and {b.dims} dimensions; expected the same number")
