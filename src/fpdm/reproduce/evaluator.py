"""Measures of a reproduction: those of a comparison, and a distance in features of another kind."""

from __future__ import annotations

import functools

from torch import Tensor

from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset, without_classes
from fpdm.evaluation.evaluator import Evaluator
from fpdm.evaluation.extractor import Extractor, train_extractor
from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance, frechet_interval

SECOND = "reconstruction_distance"
"""The second distance among a result's measures; its interval and floor have the endings _low, _high and _floor."""


class TwoExtractors(Evaluator):
    """An evaluator whose classifier is checked by a network that knows no classes and was trained to reconstruct.

    A way of sampling that only pleases the classifier gains nothing in the second distance.

    Args:
        dataset: The images, with classes; their splits serve as those of an `Evaluator`.

    Attributes:
        second: The second extractor.
    """

    def __init__(self, dataset: Dataset[ImageSet]) -> None:
        super().__init__(dataset.splits)
        plain = without_classes(dataset).splits
        self.second: Extractor = train_extractor(plain.train, plain.test)

    @functools.cached_property
    def _second_test(self) -> GaussianStatistics:
        return GaussianStatistics.of(self.second.features(self.splits.test.images))

    def measure(self, images: Tensor, *, seed: int) -> dict[str, float]:
        found = frechet_interval(self.second.features(images), self._second_test, seed=seed)
        second = {SECOND: found.value, f"{SECOND}_low": found.low, f"{SECOND}_high": found.high}
        return {**super().measure(images, seed=seed), **second}

    @functools.lru_cache(maxsize=8)  # noqa: B019  (as in the class above)
    def floor(self, count: int) -> dict[str, float]:
        real = GaussianStatistics.of(self.second.features(self.training_images(count)))
        second = frechet_distance(real, self._second_test)
        return {**super().floor(count), f"{SECOND}_floor": second}
