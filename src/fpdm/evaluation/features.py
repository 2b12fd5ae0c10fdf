"""Features of images, which all measures compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """Features of images, and the extractor that computed them.

    Attributes:
        values: (N, F) float64, finite.
        extractor: `Extractor.identity` of the extractor.

    Raises:
        ValueError: The shape or type is wrong, or a value is nan or inf.
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
        """Number of features per image, F."""
        return self.values.shape[1]


class OfAnExtractor(Protocol):
    """Features, or something computed from them."""

    @property
    def extractor(self) -> str:
        """Same as `Features.extractor`."""
        ...

    @property
    def dims(self) -> int:
        """Same as `Features.dims`."""
        ...


def same_extractor(a: str, b: str) -> bool:
    """Whether two `Extractor.identity` are of the same weights; a file's name is none of its content."""
    return a.rpartition(", ")[2] == b.rpartition(", ")[2]


def check_comparable(a: OfAnExtractor, b: OfAnExtractor) -> None:
    """Check that two sets of features come from the same extractor.

    Raises:
        ValueError: Their extractors or numbers of dimensions differ.
    """
    if not same_extractor(a.extractor, b.extractor):
        raise ValueError(
            f"features of {a.extractor!r} cannot be compared with those of {b.extractor!r}; use one extractor for both"
        )
    if a.dims != b.dims:
        raise ValueError(f"features of {a.dims} and {b.dims} dimensions; expected the same number")
