"""The plans that may be tried: all of them, each once, and those next to one."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest

from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from tests.tune import made


def test_every_combination_is_there_once() -> None:
    space = made.space()
    plans = space.plans()
    expected = {
        Plan(20, i, sampler, grid, allocation, reuse)
        for i, sampler, grid, allocation, reuse in itertools.product(
            (1, 2), ("ddim", "unipc"), ("trailing", "phi^1.5"), ("constant", "increasing"), (True, False)
        )
    }
    assert set(plans) <= expected
    drawn = []
    for plan in plans:
        made_by = ImageSampler(space.run.model, space.run.recipe.schedule, plan)
        drawn.append((plan.sampler, made_by.timesteps, made_by.table, plan.reuse))
    assert len(set(drawn)) == len(drawn)
    for plan in expected - set(plans):  # which draws the same images as one that is there
        made_by = ImageSampler(space.run.model, space.run.recipe.schedule, plan)
        assert (plan.sampler, made_by.timesteps, made_by.table, plan.reuse) in drawn


def test_the_order_is_random_but_that_of_the_seed() -> None:
    orders = [made.space(replace(made.QUICK, seed=seed)).plans() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == set(orders[2])
    assert Plan(20, 1) in orders[0]  # of those that draw the same images, the one with the first of every choice


def test_neighbours_differ_in_one_choice() -> None:
    space, plan = made.space(), Plan(20, 2, "unipc", "phi^1.5", "constant", reuse=False)
    near = space.neighbours(plan, 1)
    for one in near:
        changed = {field.name for field in fields(Plan) if getattr(one, field.name) != getattr(plan, field.name)}
        assert changed <= {"iterations", "reuse"} or len(changed) == 1, changed
    assert {one.sampler for one in near} == {"ddim", "unipc"}


def test_self_guidance_is_for_later_unless_it_is_asked_for() -> None:
    assert not any(plan.self_guidance for plan in made.space().plans())
    guided = made.space().guided(Plan(20, 2))
    assert {(plan.self_guidance, plan.weak_depth) for plan in guided} == {
        (0.0, None), (0.4, 1), (1.0, 1), (0.4, 2), (1.0, 2)
    }  # fmt: skip
    always = made.space(replace(made.QUICK, self_guidance=(1.0,)))
    assert {plan.self_guidance for plan in always.plans()} == {1.0}


def test_a_stack_has_samplers_and_grids_to_choose_from() -> None:
    assert {(plan.sampler, plan.grid) for plan in made.space(dit=True).plans()} == set(
        itertools.product(("ddim", "unipc"), ("trailing", "phi^1.5"))
    )


def test_a_budget_that_pays_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a budget of 2 block passes is below one step"):
        made.space(budget=2)
    with pytest.raises(ValueError, match="is below one step of 5 iterations"):
        made.space(replace(made.QUICK, iterations=(5,)), budget=4)
