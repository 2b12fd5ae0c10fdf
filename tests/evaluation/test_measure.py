"""Features of the real images: of each split, when they are needed, and once."""

from typing import Any, cast

import torch

from fpdm.data.images import ImageSet
from fpdm.data.splits import Splits
from fpdm.evaluation.measure import RealFeatures
from tests.evaluation.features import features


class Brightness:
    """An extractor that keeps count."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def features(self, images: torch.Tensor) -> Any:
        self.asked.append(len(images))
        return features(images.flatten(1).double().mean(1, keepdim=True))


def grey(n: int, value: int) -> ImageSet:
    return ImageSet("grey", torch.full((n, 1, 2, 2), value, dtype=torch.uint8), torch.zeros(n).long(), 0)


def test_each_split_is_looked_at_once_and_only_when_it_is_needed() -> None:
    extractor = Brightness()
    real = RealFeatures(cast(Any, extractor), Splits(grey(3, 10), grey(4, 20), grey(5, 30)))
    assert extractor.asked == []
    assert real.test.values.tolist() == [[30.0]] * 5
    assert real.train.values.tolist() == [[10.0]] * 3
    assert real.test is real.test
    assert extractor.asked == [5, 3]
