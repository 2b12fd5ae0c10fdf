"""Numbers of plans and images of a search."""

import pytest

from fpdm.tune.settings import TuneSettings


def test_images_grow_threefold_and_plans_are_halved() -> None:
    assert TuneSettings().sizes == [40, 120, 360, 1080]
    assert [TuneSettings().kept(number) for number in range(4)] == [64, 16, 8, 4]
    assert TuneSettings(first_images=10, num_images=100).sizes == [11, 33, 100]


def test_there_are_three_rounds_at_least() -> None:
    with pytest.raises(ValueError, match="num_images is 300; expected at least 9 times first_images, 360, for three"):
        TuneSettings(num_images=300)
    with pytest.raises(ValueError, match="samplers is empty"):
        TuneSettings(samplers=())
