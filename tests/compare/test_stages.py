"""Which stages a comparison has, by what they cost and the time that is left."""

from __future__ import annotations

import itertools

import pytest

from fpdm.compare.settings import Settings
from fpdm.compare.stages import Stage, first_look, full_protocol, next_stage, scaled

FULL = Settings(budgets=(140, 280), samplers=("ddim", "ddpm"), num_images=(2000, 1000), sweep=(1, 3))


def cost(stage: Stage) -> float:
    """A second for ten images of a row, with nine trials."""
    s = stage.settings
    return sum(n + 9 * s.choosing_images for n in s.num_images) / 10


def test_the_first_look_has_few_images_the_first_sampler_and_no_sweep() -> None:
    stage = first_look(FULL, seconds=0.5, available=60)
    assert stage.settings.num_images == (120,)
    assert (stage.settings.samplers, stage.settings.sweep, stage.is_full) == (("ddim",), (), False)
    assert first_look(FULL, seconds=1e-4).settings.num_images == (250,)  # a quarter of the full protocol is enough
    assert first_look(FULL, seconds=1e3).settings.num_images == (12,)  # fewer cannot be measured
    assert first_look(Settings(num_images=(20,)), seconds=1e-4).settings.num_images == (20,)


def test_a_stage_has_its_share_of_the_images_and_all_choices() -> None:
    eighth = scaled(FULL, 1 / 8)
    assert (eighth.settings.num_images, eighth.settings.choosing_images) == ((250, 125), 50)
    assert eighth.settings.choices == FULL.choices
    assert eighth.settings.samplers == FULL.samplers
    assert scaled(FULL, 1.0) == full_protocol(FULL)
    small = Settings(num_images=(40,), choosing_images=20)
    assert scaled(small, 1 / 32).is_full  # nothing is left to reduce


def test_without_a_limit_stages_grow_until_the_full_protocol() -> None:
    stage, spent, names = first_look(FULL, seconds=0.2), 60.0, list[float]()
    costs = [spent]
    while (stage := next_stage(FULL, stage, cost, spent, None)) is not None:
        spent = cost(stage)
        names.append(stage.share)
        costs.append(spent)
    assert names[-1] == 1.0
    assert names == sorted(set(names))
    assert all(b >= 3 * a for a, b in itertools.pairwise(costs[:-1]))
    assert sum(costs[:-1]) < costs[-1]  # earlier answers cost less than the full protocol


def test_the_full_protocol_follows_even_if_it_is_little_more() -> None:
    last = scaled(FULL, 1 / 2)
    following = next_stage(FULL, last, cost, cost(last), None)
    assert following is not None
    assert following.is_full


@pytest.mark.parametrize(
    ("available", "share"),
    [
        (cost(full_protocol(FULL)) + 1000, 1 / 4),  # there is time for one in between
        (cost(full_protocol(FULL)), 1.0),
        (cost(full_protocol(FULL)) - 1, 1 / 2),
        (cost(scaled(FULL, 1 / 4)), 1 / 4),
        (90.0, None),  # nothing that is worth its time fits
    ],
)
def test_the_best_that_fits_into_the_time_is_next(available: float, share: float | None) -> None:
    found = next_stage(FULL, first_look(FULL, seconds=0.2), cost, 45.0, available)
    assert (found and found.share) == share
