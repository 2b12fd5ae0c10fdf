"""Successive halving on distances that are made up."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fpdm.sampling.plan import Plan
from fpdm.tune.halving import halve, most_images
from tests.tune import made

UNTUNED = Plan(20, 2)
WIDE = replace(
    made.QUICK,
    samplers=("ddim", "ddpm", "second-order", "unipc"),
    iterations=(1, 2, 3, 5),
    grids=("trailing", "phi^0.75", "phi^1.25", "phi^2"),
    candidates=64,
    first_images=40,
    num_images=1080,
)


def distance_to(wanted: Plan, noise: float = 1.0):
    names = ("iterations", "sampler", "grid", "allocation", "reuse", "self_guidance", "weak_depth")

    def distance(plan: Plan, images: int) -> float:
        error = random.Random(f"{plan}-{images}").gauss(0, noise) / images**0.5
        return sum(getattr(plan, name) != getattr(wanted, name) for name in names) + error

    return distance


@pytest.mark.parametrize(
    "wanted",
    [
        Plan(20, 1, "unipc", "phi^2", "constant", reuse=False),
        Plan(20, 3, "ddpm", "phi^0.75", "increasing"),
        Plan(20, 2, "second-order", "trailing", "constant", self_guidance=1.0, weak_depth=1),
    ],
)
def test_the_best_of_many_plans_is_found_through_noise_without_trying_them_all(wanted: Plan) -> None:
    space = made.space(WIDE)
    rounds = halve(space, UNTUNED, WIDE, distance_to(wanted))
    found, exact = rounds[-1].trials[0].plan, distance_to(wanted, noise=0.0)
    assert exact(found, 1) <= min(1.0, min(exact(plan, 1) for plan in space.plans()[:64]))
    tried = {trial.plan for one in rounds for trial in one.trials}
    assert len(tried) < len(space.plans())


def test_rounds_have_more_images_and_fewer_plans_best_first() -> None:
    rounds = halve(made.space(WIDE), UNTUNED, WIDE, distance_to(Plan(20, 1)))
    assert [one.images for one in rounds] == WIDE.sizes
    assert len(rounds[0].trials) in (64, 65)  # the untuned plan may be one of them
    assert len(rounds[-1].trials) in (4, 5)
    for one in rounds:
        distances = [trial.distance for trial in one.trials]
        assert distances == sorted(distances)
    kept = {trial.plan for trial in rounds[-1].trials} - {UNTUNED}
    assert kept <= {trial.plan for trial in rounds[-2].trials[:4]} | {UNTUNED}


def test_the_untuned_plan_is_judged_in_the_end_and_wins_if_it_is_best() -> None:
    for settings in (WIDE, made.QUICK):
        far = halve(made.space(settings), UNTUNED, settings, lambda plan, images: float(plan == UNTUNED))
        assert UNTUNED in [trial.plan for trial in far[-1].trials]
        near = halve(made.space(settings), UNTUNED, settings, lambda plan, images: -float(plan == UNTUNED))
        assert near[-1].trials[0].plan == UNTUNED


@pytest.mark.parametrize("settings", [WIDE, made.QUICK, replace(WIDE, self_guidance=(0.0,))])
@pytest.mark.parametrize("dit", [False, True])
def test_no_more_images_are_drawn_than_announced(settings, dit: bool) -> None:
    space, drawn = made.space(settings, dit=dit), dict[Plan, int]()
    untuned = Plan(20) if dit else UNTUNED

    def distance(plan: Plan, images: int) -> float:
        drawn[plan] = max(drawn.get(plan, 0), images)
        return random.Random(str(plan)).random()

    halve(space, untuned, settings, distance)
    most = most_images(settings, len(space.plans()), len(space.guided(untuned)) - 1)
    assert 0.5 * most < sum(drawn.values()) <= most
