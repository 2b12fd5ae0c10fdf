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


def test_no_more_plans_are_asked_for_than_the_choices_make() -> None:
    TuneSettings(candidates=5 * 6 * 2 * 6 * 3)
    TuneSettings(candidates=2 * 2 * 1080, self_guidance=(0.4, 1.0))  # at two depths, and none without
    TuneSettings(samplers=("ddim",), grids=("trailing",))  # the default stays possible
    for candidates, weights, most in ((1081, (0.0,), 1080), (10**12, (0.0, 1.0), 1080), (4321, (0.4, 1.0), 4320)):
        with pytest.raises(ValueError, match=rf"candidates is {candidates}; expected at most {most}: these"):
            TuneSettings(candidates=candidates, self_guidance=weights)
