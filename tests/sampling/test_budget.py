"""Budgets against the paper's figures and plain arithmetic."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling.budget import Budget

SMALL = TransformerConfig(image_size=4, in_channels=1, width=8, heads=2, num_classes=3)


def fixed_point(passes, explicit=2, per_iteration=1):
    return Budget(passes, explicit, per_iteration, range(1, 10**9))


def stack(passes, depth=26, explicit=2):
    return Budget(passes, explicit, 1, range(depth, depth + 1))


@pytest.mark.parametrize(
    ("iterations", "steps"), [(1, 93), (3, 56), (5, 40), (6, 35), (8, 28), (12, 20), (26, 10), (68, 4)]
)
def test_the_papers_pairs_at_280_passes(iterations, steps):
    assert fixed_point(280).steps(iterations) == steps
    assert fixed_point(280).iterations(steps) == 280 - 2 * steps >= steps * iterations


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_footnote_4(steps):
    one = DiffusionTransformer.from_shape(SMALL).cost()
    two = DiffusionTransformer(**{**vars(SMALL), "pre_blocks": 2, "post_blocks": 2}).cost()
    dit = DiffusionTransformer.from_shape(as_dit(SMALL, 28)).cost()
    assert Budget.of(10_000, one).cost([26] * steps) == 28 * steps
    assert Budget.of(10_000, two).cost([10] * 2 * steps) == 28 * steps
    assert Budget.of(10_000, dit).cost([26] * steps) == 28 * steps
    assert Budget.of(280, dit).steps() == 10
    assert not Budget.of(280, dit).adjustable
    assert Budget.of(280, one).adjustable


def test_a_cell_of_two_blocks_costs_two_passes_an_iteration():
    cost = DiffusionTransformer(**{**vars(SMALL), "middle_blocks": 2}).cost()
    assert Budget.of(100, cost).cost([3, 1]) == 2 + 6 + 2 + 2
    assert Budget.of(41, cost).steps(4) == 4
    assert Budget.of(41, cost).iterations(4) == 16  # one pass of the 33 is left unspent


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(0, 8), st.integers(1, 4), st.integers(1, 40))
def test_steps_and_iterations_use_all_that_can_be_used(passes, explicit, per_iteration, iterations):
    if passes < explicit + per_iteration:
        with pytest.raises(ValueError, match=rf"{passes} block passes.*at least {explicit + per_iteration}"):
            fixed_point(passes, explicit, per_iteration)
        return
    budget = fixed_point(passes, explicit, per_iteration)
    each = explicit + iterations * per_iteration
    if passes < each:
        with pytest.raises(ValueError, match=rf"{passes} block passes.*{iterations} iterations.*at least {each}"):
            budget.steps(iterations)
        return
    steps = budget.steps(iterations)
    assert steps * each <= passes < (steps + 1) * each
    total = budget.iterations(steps)
    assert 0 <= passes - steps * explicit - total * per_iteration < per_iteration
    assert total >= steps * iterations


def test_a_stack_has_one_answer():
    budget = stack(290)
    assert budget.steps() == budget.steps(26) == 10
    assert budget.iterations(7) == 7 * 26  # more would be meaningless, and stays unspent
    with pytest.raises(ValueError, match=r"iterations is 5.*stack of 26 blocks.*leave it out or give 26"):
        budget.steps(5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fixed_point(2), "budget of 2 block passes.*at least 3"),
        (lambda: fixed_point(0), "budget of 0 block passes.*at least 3"),
        (lambda: fixed_point(-5), "budget of -5 block passes.*at least 3"),
        (lambda: stack(27), "budget of 27 block passes.*at least 28"),
        (lambda: fixed_point(140).iterations(47), "140 block passes.*47 steps.*at least 141"),
        (lambda: stack(140).iterations(6), "140 block passes.*6 steps.*at least 168"),
        (lambda: fixed_point(140).steps(139), "140 block passes.*139 iterations.*at least 141"),
        (lambda: fixed_point(140).steps(0), "iterations is 0; expected 1 or more"),
        (lambda: fixed_point(140).steps(), "iterations per step is missing"),
        (lambda: fixed_point(140).iterations(0), "steps is 0"),
    ],
)
def test_errors_name_the_value_and_the_minimum(call, message):
    with pytest.raises(ValueError, match=message):
        call()
