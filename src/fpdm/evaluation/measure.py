"""The interface of a measure of generated images, and the features of the real images that it compares with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from fpdm.data.images import ImageSet
from fpdm.data.splits import Splits
from fpdm.evaluation.extractor import Extractor
from fpdm.evaluation.features import Features


class RealFeatures:
    """Features of the real images, computed when they are first needed.

    Args:
        extractor: The extractor.
        splits: The real images.
    """

    def __init__(self, extractor: Extractor, splits: Splits[ImageSet]) -> None:
        self._extractor, self._splits = extractor, splits

    @functools.cached_property
    def train(self) -> Features:
        """Features of the training images, (N, F)."""
        return self._extractor.features(self._splits.train.images)

    @functools.cached_property
    def validation(self) -> Features:
        """Features of the validation images, (V, F)."""
        return self._extractor.features(self._splits.validation.images)

    @functools.cached_property
    def test(self) -> Features:
        """Features of the test images, (M, F)."""
        return self._extractor.features(self._splits.test.images)


@dataclass(frozen=True)
class Measure:
    """A measure of generated images. `fpdm.evaluation.measures.MEASURES` lists all that are in use.

    Attributes:
        compute: Computes the recorded values by name, given the features of the generated images, those of the real
            images and the seed of the bootstrap.
        floor: Computes the values of real training images, as a reference point; None if there is none.
        explanation: Heading and text for the report's section on how to read it; None if the figures say it.
    """

    compute: Callable[[Features, RealFeatures, int], dict[str, float]]
    floor: Callable[[Features, RealFeatures], dict[str, float]] | None = None
    explanation: tuple[str, str] | None = None
