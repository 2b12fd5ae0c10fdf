"""What images are judged by: distances, precision and recall in one extractor's features, with floors beside them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.data.images import ImageSet
from fpdm.data.labels import proportional_labels
from fpdm.data.splits import Splits
from fpdm.evaluation.bootstrap import Interval
from fpdm.evaluation.extractor import Extractor, extractor
from fpdm.evaluation.features import Features
from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance, frechet_interval
from fpdm.evaluation.kid import kernel_distance, kernel_interval
from fpdm.evaluation.nearest import Nearest, nearest
from fpdm.evaluation.precision_recall import PrecisionRecall, precision_recall

_NEIGHBOUR = 3  # of precision and recall


@dataclass(frozen=True)
class Measures:
    """What is known of a set of generated images.

    Attributes:
        distance: Fréchet distance to the test images.
        kernel: Kernel distance to them.
        manifold: Precision and recall against as many test images.
        novelty: Median distance to the nearest training image over that of the test images.
    """

    distance: Interval
    kernel: Interval
    manifold: PrecisionRecall
    novelty: float


class Evaluator:
    """Judges images by a data set's splits.

    Args:
        splits: The extractor is trained on the first; plans are chosen by the second, results reported on the third.

    Attributes:
        extractor: Whose features.
        splits: As given.
    """

    def __init__(self, splits: Splits) -> None:
        self.splits = splits
        self.extractor: Extractor = extractor(splits.train, splits.test)

    @functools.cached_property
    def train(self) -> Features:
        """Of the training images."""
        return self.extractor.features(self.splits.train.images)

    @functools.cached_property
    def test(self) -> Features:
        """Of the test images."""
        return self.extractor.features(self.splits.test.images)

    @functools.cached_property
    def _chooser(self) -> GaussianStatistics:
        return GaussianStatistics.of(self.extractor.features(self.splits.validation.images))

    @functools.cached_property
    def _reference(self) -> GaussianStatistics:
        return GaussianStatistics.of(self.test)

    @functools.cached_property
    def _unseen(self) -> float:
        # Not 0, which it is where most test images are copies of training images.
        return max(float(nearest(self.test, self.train).distances.median()), 1e-12)

    def choosing_distance(self, images: Tensor) -> float:
        """Fréchet distance of images (N, C, H, W) to the validation images."""
        return frechet_distance(GaussianStatistics.of(self.extractor.features(images)), self._chooser)

    def distance(self, images: Tensor) -> float:
        """Fréchet distance of images (N, C, H, W) to the test images."""
        return frechet_distance(GaussianStatistics.of(self.extractor.features(images)), self._reference)

    def measure(self, images: Tensor, *, seed: int) -> Measures:
        """Everything that is reported of generated images (N, C, H, W) uint8; `seed` is the bootstrap's."""
        made = self.extractor.features(images)
        # Precision and recall depend on the numbers of images: equal ones, spread over the test split.
        n = min(len(images), len(self.test.values))
        fewer = Features(made.values[:n], made.extractor)
        real = Features(self.test.values[torch.arange(n) * len(self.test.values) // n], self.test.extractor)
        return Measures(
            frechet_interval(made, self._reference, seed=seed),
            kernel_interval(made, self.test, seed=seed),
            precision_recall(fewer, real, k=_NEIGHBOUR),
            float(nearest(made, self.train).distances.median()) / self._unseen,
        )

    @functools.cached_property
    def class_sizes(self) -> tuple[int, ...]:
        """Images of each class in the test split; empty without classes."""
        test = self.splits.test
        return tuple(test.labels.bincount(minlength=test.num_classes).tolist()) if test.num_classes else ()

    def labels(self, count: int) -> list[int]:
        """What to generate to be judged, in the test split's proportions, and what real images stand beside it."""
        return proportional_labels(count, self.class_sizes)

    @functools.lru_cache(maxsize=8)  # noqa: B019  (a judge lives as long as its comparison)
    def floor_images(self, count: int) -> int:
        """How many training images there are with the first of `count` labels, none taken twice; `count` at most."""
        left = self.splits.train.labels.bincount(minlength=max(len(self.class_sizes), 1)).tolist()
        for place, label in enumerate(self.labels(count)):
            if not left[label]:
                return place
            left[label] -= 1
        return count

    @functools.lru_cache(maxsize=8)  # noqa: B019  (a judge lives as long as its comparison)
    def floor(self, count: int) -> tuple[float, float]:
        """The Fréchet and the kernel distance of `floor_images(count)` training images."""
        real = self.extractor.features(with_labels(self.splits.train, self.labels(self.floor_images(count))))
        return frechet_distance(GaussianStatistics.of(real), self._reference), kernel_distance(real, self.test)

    def nearest_training(self, images: Tensor) -> Tensor:
        """The training image nearest to each image in feature space: (N, C, H, W) uint8."""
        found: Nearest = nearest(self.extractor.features(images), self.train)
        return self.splits.train.images[found.indices]  # (N, C, H, W)


def check_measurable(splits: Splits[ImageSet]) -> None:
    """Check, before an extractor is trained, that there are images enough for plans to be chosen and for `measure`.

    Raises:
        ValueError: The validation or the test split has too few.
    """
    for what, part, least in (("validation", splits.validation, 2), ("test", splits.test, _NEIGHBOUR + 1)):
        if len(part) < least:
            raise ValueError(
                f"the {what} split of {part.name!r} has {len(part)} images; expected {least} or more to judge by: "
                "add images"
            )


def with_labels(data: ImageSet, labels: Sequence[int]) -> Tensor:
    """Real images with these labels: (N, C, H, W) uint8, some twice if there are too few."""
    images_of = {label: itertools.cycle(torch.nonzero(data.labels == label).flatten().tolist()) for label in {*labels}}
    return data.images[[next(images_of[label]) for label in labels]]  # (N, C, H, W)
