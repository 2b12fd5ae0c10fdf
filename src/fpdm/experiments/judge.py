"""What images are judged by: distances, precision and recall in one extractor's features, with floors beside them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fpdm.data import ImageSet, Splits
from fpdm.evaluation import (
    Extractor,
    Features,
    GaussianStatistics,
    Interval,
    Nearest,
    PrecisionRecall,
    extractor,
    frechet_distance,
    frechet_interval,
    kernel_distance,
    kernel_interval,
    nearest,
    precision_recall,
)
from fpdm.generate import balanced_labels


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


class Judge:
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
            precision_recall(fewer, real),
            float(nearest(made, self.train).distances.median()) / self._unseen,
        )

    @functools.lru_cache(maxsize=8)  # noqa: B019  (a judge lives as long as its comparison)
    def floor(self, count: int) -> tuple[float, float]:
        """The Fréchet and the kernel distance of `count` training images, or of as many as there are of each class."""
        train = self.splits.train
        fewest = int(train.labels.bincount(minlength=1).min()) * max(train.num_classes, 1)
        real = self.extractor.features(balanced(train, min(count, fewest)))
        return frechet_distance(GaussianStatistics.of(real), self._reference), kernel_distance(real, self.test)

    def nearest_training(self, images: Tensor) -> Tensor:
        """The training image nearest to each image in feature space: (N, C, H, W) uint8."""
        found: Nearest = nearest(self.extractor.features(images), self.train)
        return self.splits.train.images[found.indices]  # (N, C, H, W)


def balanced(data: ImageSet, count: int) -> Tensor:
    """Real images with the labels of generated ones: (count, C, H, W) uint8, some twice if need be."""
    classes = max(data.num_classes, 1)
    of_class = [torch.nonzero(data.labels == label).flatten() for label in range(classes)]  # K of (N_k,)
    places = [of_class[label] for label in balanced_labels(range(count), classes)]  # count of (N_k,)
    chosen = [int(place[i // classes % len(place)]) for i, place in enumerate(places)]
    return data.images[chosen]  # (count, C, H, W)
