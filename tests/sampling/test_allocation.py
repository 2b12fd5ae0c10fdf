"""Allocations: exact sums for any budget, and the adaptive one's promises."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fpdm.fixed_point.solve import Solution, mean_iterations
from fpdm.sampling.allocation import ALLOCATIONS, Adaptive, Constant, Decreasing, Increasing, Probed, probe
from fpdm.sampling.budget import Budget
from fpdm.sampling.sampler import sample
from fpdm.sampling.steps import ddim
from fpdm.sampling.timesteps import grid
from tests.oracle.gaussian import Exact, Gaussian, Rate
from tests.sampling.helpers import SCHEDULE

DATA = Gaussian(np.array([0.2, -0.1]), np.array([[0.3, 0.1], [0.1, 0.2]]))
EVERY = sorted(ALLOCATIONS)
budgets = st.builds(
    lambda spare, steps, explicit, per_iteration: (
        Budget(steps * (explicit + per_iteration) + spare, explicit, per_iteration, range(1, 10**9)),
        steps,
    ),
    st.integers(0, 3000),
    st.integers(1, 120),
    st.integers(0, 8),
    st.integers(1, 4),
)


def ideal(name: str, total: int, steps: int) -> np.ndarray:
    """The shares before rounding."""
    weights = {"constant": np.ones(steps), "increasing": np.linspace(0.5, 1.5, steps)}
    weights["decreasing"] = weights["increasing"][::-1]
    weights = weights[name] if steps > 1 else np.ones(1)  # (S,)
    return total * weights / weights.sum()


@settings(deadline=None, max_examples=300)
@given(budgets, st.sampled_from(EVERY))
def test_tables_sum_exactly_to_what_the_budget_pays_for(case, name):
    budget, steps = case
    table = np.array(ALLOCATIONS[name].table(budget, steps))  # (S,)
    assert len(table) == steps
    assert table.min() >= 1
    payable = (budget.passes - steps * budget.explicit) // budget.per_iteration
    assert table.sum() == payable == budget.iterations(steps)
    cost = int(steps * budget.explicit + table.sum() * budget.per_iteration)
    assert budget.cost(table.tolist()) == cost
    assert 0 <= budget.passes - cost < budget.per_iteration

    shares = ideal(name, payable, steps)  # (S,)
    if shares.min() >= 1:
        assert np.abs(table - shares).max() < 1.0
    if name == "increasing":
        assert (np.diff(table) >= 0).all()
    elif name == "decreasing":
        assert (np.diff(table) <= 0).all()
    else:
        assert (np.diff(table) >= 0).all()  # the extra ones go to the cleanest steps
        assert table.max() - table.min() <= 1


def test_largest_remainders_by_hand():
    budget = Budget(32, 2, 1, range(1, 10**9))  # 5 steps: 22 iterations; shares 2.2 3.3 4.4 5.5 6.6
    assert Increasing().table(budget, 5) == (2, 3, 4, 6, 7)
    assert Decreasing().table(budget, 5) == (7, 6, 4, 3, 2)
    assert Constant().table(budget, 5) == (4, 4, 4, 5, 5)


def test_clamped_steps_leave_the_rest_to_be_shared():
    budget = Budget(9, 0, 1, range(1, 10**9))  # shares 0.75 1.05 1.35 ...: the first gets 1, the others 8 in proportion
    assert Increasing().table(budget, 6) == (1, 1, 1, 2, 2, 2)
    assert Increasing().table(Budget(6, 0, 1, range(1, 10**9)), 6) == (1,) * 6


@pytest.mark.parametrize("iterations", [3, 5, 6, 8, 12, 26])
def test_a_fixed_allocation_hands_out_its_table(iterations):
    budget = Budget(280, 2, 1, range(1, 10**9))
    steps = budget.steps(iterations)
    for allocation in ALLOCATIONS.values():
        state, given_out = allocation.init(budget, steps), []
        for _ in range(steps):
            stop = allocation.next(state)
            assert stop.tol == 0.0
            given_out.append(stop.max_iters)
            state = allocation.update(state, Solution(torch.zeros(1), stop.max_iters))
        assert tuple(given_out) == allocation.table(budget, steps)
        assert state.remaining == 0
        assert budget.cost(given_out) == 280


@pytest.mark.parametrize("name", EVERY)
def test_a_stack_has_one_table(name):
    budget = Budget(300, 2, 1, range(26, 27))
    assert ALLOCATIONS[name].table(budget, 10) == (26,) * 10
    assert ALLOCATIONS[name].table(budget, 3) == (26,) * 3
    with pytest.raises(ValueError, match=r"300 block passes.*11 steps.*at least 308"):
        ALLOCATIONS[name].table(budget, 11)


@pytest.mark.parametrize("allocation", [*ALLOCATIONS.values(), Adaptive(0.1)])
def test_too_small_a_budget_names_the_minimum(allocation):
    with pytest.raises(ValueError, match=r"140 block passes.*47 steps.*at least 141"):
        allocation.init(Budget(140, 2, 1, range(1, 10**9)), 47)


def by_sample_and_timestep(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rates between 0.2 and 0.95, without order in the samples and slower at the clean end."""
    return 0.2 + 0.75 * (0.5 + 0.5 * np.sin(3.7 * y)) * (1 - 0.6 * t / 999)


def adaptively(
    allocation: Adaptive, budget: Budget, steps: int, labels: list[int], rate: Rate, *, reuse: bool = False
) -> list[torch.Tensor]:
    """Iterations of each step and sample: S of (B,)."""
    y = torch.tensor(labels)  # (B,)
    states = sample(
        Exact(DATA, rate=rate),
        torch.stack([torch.full((2, 1, 1), np.sin(k), dtype=torch.float64) for k in labels]),  # (B, C, H, W)
        y,
        schedule=SCHEDULE,
        timesteps=grid(SCHEDULE, steps),
        step=ddim,
        budget=budget,
        allocation=allocation,
        clip=None,
        reuse=reuse,
    )
    *_, last = all_states = list(states)
    assert torch.equal(torch.as_tensor(last.spent), sum(torch.as_tensor(s.solution.iters) for s in all_states))
    return [torch.as_tensor(state.solution.iters) for state in all_states]


@settings(deadline=None, max_examples=60)
@example(20, 4, 0, 1, 1e-3, 64, [0.9, 0.5], False)  # the first spends all at once; the second must not feel it
@given(
    spare=st.integers(0, 150),
    steps=st.integers(1, 8),
    explicit=st.integers(0, 4),
    per_iteration=st.integers(1, 3),
    threshold=st.floats(1e-6, 2.0),
    cap=st.integers(1, 64),
    rates=st.lists(st.floats(0.01, 0.999), min_size=1, max_size=4),
    reuse=st.booleans(),
)
def test_adaptive_never_spends_more_than_the_budget(
    spare, steps, explicit, per_iteration, threshold, cap, rates, reuse
):
    def rate(t: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array(rates)[y] ** (1 + t / 999)

    budget = Budget(steps * (explicit + per_iteration) + spare, explicit, per_iteration, range(1, 10**9))
    labels = list(range(len(rates)))
    table = torch.stack(adaptively(Adaptive(threshold, cap), budget, steps, labels, rate, reuse=reuse))  # (S, B)
    assert table.min() >= 1
    assert table.max() <= cap
    assert (steps * explicit + table.sum(0) * per_iteration).max() <= budget.passes
    # A sample's iterations are its own.
    alone = adaptively(Adaptive(threshold, cap), budget, steps, labels[-1:], rate, reuse=reuse)
    assert torch.equal(table[:, -1:], torch.stack(alone))


def test_adaptive_stops_at_its_threshold_its_cap_and_its_budget():
    def iterations(threshold: float, rate: float, spare: int, cap: int = 64) -> list[int]:
        budget = Budget(9 + spare, 2, 1, range(1, 10**9))
        got = adaptively(Adaptive(threshold, cap), budget, 3, [0], lambda t, y: np.full(t.shape, rate))
        return [int(n) for n in got]

    # Towards the point 1 + phi from 1/2, |z_k - z_{k-1}| / |z_k| falls as rate^k.
    def needed(threshold: float, rate: float) -> list[int]:
        out = []
        for phi in SCHEDULE.angle(torch.tensor(grid(SCHEDULE, 3))).flatten().tolist():
            z, count, change = 0.5, 0, np.inf
            while change > threshold:
                new = 1 + phi + rate * (z - 1 - phi)
                z, count, change = new, count + 1, abs(new - z) / abs(new)
            out.append(count)
        return out

    for threshold, rate in ((0.1, 0.3), (0.01, 0.5), (1e-4, 0.8)):
        assert iterations(threshold, rate, 1000, cap=100) == needed(threshold, rate)
    assert iterations(1e-4, 0.8, 1000, cap=7) == [7, 7, 7]
    assert iterations(1e-4, 0.8, 30) == [31, 1, 1]  # the first takes all but what the later ones need at least


def probing(budget: Budget, steps: int, labels: list[int], rate: Rate) -> Probed:
    def run(allocation: Adaptive) -> float:
        return mean_iterations(sum(adaptively(allocation, budget, steps, labels, rate)))

    return probe(budget, steps, run)


@pytest.mark.parametrize(("passes", "steps"), [(140, 20), (280, 20), (280, 35), (560, 40)])
def test_probe_lands_within_two_percent_of_the_budget(passes, steps):
    budget = Budget(passes, 2, 1, range(1, 10**9))
    labels = list(range(16))
    found = probing(budget, steps, labels, by_sample_and_timestep)
    assert 0.98 * passes <= found.passes <= passes
    assert 1 <= found.probes <= 10
    assert found.allocation.limited
    unlimited = Adaptive(found.allocation.threshold, limited=False)
    spent = sum(adaptively(unlimited, budget, steps, labels, by_sample_and_timestep))  # (B,)
    assert 2 * steps + mean_iterations(spent) == pytest.approx(found.passes)
    # On another batch, of harder samples, the budget holds for every one of them.
    for others in (list(range(16, 29)), [k for k in range(200) if np.sin(3.7 * k) > 0.9]):
        spent = sum(adaptively(found.allocation, budget, steps, others, by_sample_and_timestep))  # (B,)
        assert (2 * steps + spent).max() <= passes


def test_probe_takes_the_dearest_below_where_it_cannot_come_close():
    budget = Budget(100, 0, 1, range(1, 10**9))
    thresholds = []

    def run(allocation: Adaptive) -> float:
        assert not allocation.limited
        thresholds.append(allocation.threshold)
        return 60.0 if allocation.threshold > 1e-3 else 300.0

    found = probe(budget, 10, run)
    assert found.passes == 60.0
    assert found.probes == len(thresholds) == 10
    assert found.allocation.threshold == min(t for t in thresholds if t > 1e-3)
    assert found.allocation.threshold == pytest.approx(1e-3, rel=0.02)


def test_adapting_needs_something_to_adapt():
    stack = Budget(280, 2, 1, range(26, 27))
    with pytest.raises(ValueError, match=r"adaptive.*needs a fixed point.*stack"):
        Adaptive(0.1).init(stack, 10)
    with pytest.raises(ValueError, match=r"adaptive.*needs a fixed point.*stack"):
        probe(stack, 10, lambda allocation: pytest.fail("probed a stack"))
    with pytest.raises(ValueError, match=r"140 block passes.*at least 141"):
        probe(Budget(140, 2, 1, range(1, 10**9)), 47, lambda allocation: pytest.fail("probed without a budget"))


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("inf"), float("nan")])
def test_refuses_thresholds(threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}"):
        Adaptive(threshold)


def test_refuses_a_cap_of_zero():
    with pytest.raises(ValueError, match="cap is 0; expected 1 or more"):
        Adaptive(0.1, cap=0)
