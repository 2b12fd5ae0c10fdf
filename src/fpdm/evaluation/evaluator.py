"""Measure generated images against a data set's real ones, in the features of one extractor."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fpdm.data.images import ImageSet
from fpdm.data.labels import proportional_labels
from fpdm.data.splits import Splits
from fpdm.evaluation.extractor import Extractor, train_extractor
from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance
from fpdm.evaluation.measure import RealFeatures
from fpdm.evaluation.measures import MEASURES
from fpdm.evaluation.nearest import nearest
from fpdm.evaluation.precision_recall import NEIGHBOUR


class Evaluator:
    """Measures generated images against the splits of a data set.

    Args:
        splits: Trains the extractor on the training split, chooses plans by the validation split, and reports results
            on the test split.

    Attributes:
        extractor: Computes the features.
        real: Features of the real images.
        splits: The splits as given.
    """

    def __init__(self, splits: Splits[ImageSet]) -> None:
        self.splits = splits
        self.extractor: Extractor = train_extractor(splits.train, splits.test)
        self.real = RealFeatures(self.extractor, splits)

    @functools.cached_property
    def _validation(self) -> GaussianStatistics:
        return self._statistics(self.splits.validation.images)

    @functools.cached_property
    def _test(self) -> GaussianStatistics:
        return GaussianStatistics.of(self.real.test)

    def _statistics(self, images: Tensor) -> GaussianStatistics:
        return GaussianStatistics.of(self.extractor.features(images))

    def choosing_distance(self, images: Tensor) -> float:
        """Return the Fréchet distance of images (N, C, H, W) to the validation images."""
        return frechet_distance(self._statistics(images), self._validation)

    def distance(self, images: Tensor) -> float:
        """Return the Fréchet distance of images (N, C, H, W) to the test images."""
        return frechet_distance(self._statistics(images), self._test)

    def measure(self, images: Tensor, *, seed: int) -> dict[str, float]:
        """Compute every measure of `MEASURES`.

        Args:
            images: Generated images, (N, C, H, W) uint8.
            seed: Seed of the bootstrap.

        Returns:
            The values by the names that they are recorded under.
        """
        generated = self.extractor.features(images)
        found = (measure.compute(generated, self.real, seed) for measure in MEASURES)
        return {name: value for values in found for name, value in values.items()}

    @functools.cached_property
    def class_sizes(self) -> tuple[int, ...]:
        """Number of test images of each class; empty for data without classes."""
        test = self.splits.test
        return tuple(test.labels.bincount(minlength=test.num_classes).tolist()) if test.num_classes else ()

    def labels(self, count: int) -> list[int]:
        """Return `count` labels in the proportions of the test split, for generated images and the real ones shown."""
        return proportional_labels(count, self.class_sizes)

    @functools.lru_cache(maxsize=8)  # noqa: B019  (an evaluator lives as long as its comparison)
    def floor_images(self, count: int) -> int:
        """Return how many different training images there are for the first of `count` labels, `count` at most."""
        left = self.splits.train.labels.bincount(minlength=max(len(self.class_sizes), 1)).tolist()
        for place, label in enumerate(self.labels(count)):
            if not left[label]:
                return place
            left[label] -= 1
        return count

    def training_images(self, count: int) -> Tensor:
        """Return the training images that a floor is computed from, (`floor_images(count)`, C, H, W) uint8."""
        return with_labels(self.splits.train, self.labels(self.floor_images(count)))

    @functools.lru_cache(maxsize=8)  # noqa: B019  (an evaluator lives as long as its comparison)
    def floor(self, count: int) -> dict[str, float]:
        """Return what the measures with a floor give for `floor_images(count)` training images."""
        training = self.extractor.features(self.training_images(count))
        found = (measure.floor(training, self.real) for measure in MEASURES if measure.floor)
        return {name: value for values in found for name, value in values.items()}

    def nearest_training(self, images: Tensor) -> Tensor:
        """Return the training image nearest to each image in feature space, (N, C, H, W) uint8."""
        found = nearest(self.extractor.features(images), self.real.train)
        return self.splits.train.images[found.indices]  # (N, C, H, W)


def check_measurable(splits: Splits[ImageSet]) -> None:
    """Check that there are enough images to choose plans and to measure, before an extractor is trained.

    Raises:
        ValueError: The validation or the test split has too few images.
    """
    for what, part, least in (("validation", splits.validation, 2), ("test", splits.test, NEIGHBOUR + 1)):
        if len(part) < least:
            raise ValueError(
                f"the {what} split of {part.name!r} has {len(part)} images; expected {least} or more to measure with; "
                "add images"
            )


def with_labels(data: ImageSet, labels: Sequence[int]) -> Tensor:
    """Return real images with these labels, (N, C, H, W) uint8; some repeat if there are too few."""
    images_of = {label: itertools.cycle(torch.nonzero(data.labels == label).flatten().tolist()) for label in {*labels}}
    return data.images[[next(images_of[label]) for label in labels]]  # (N, C, H, W)
