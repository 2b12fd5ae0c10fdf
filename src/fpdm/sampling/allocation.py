"""Allocation of a budget's iterations to the timesteps, in SAMPLING order (the noisiest step first).

`Constant`, `Increasing` and `Decreasing` fix a table in advance that spends exactly the budget (paper Sec. 3.3,
Table 5); `Adaptive` lets each sample iterate until it has converged (appendix C). State is passed in and returned.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from fpdm.fixed_point.solve import Solution, Stop
from fpdm.sampling.budget import Budget


@dataclass(frozen=True)
class AllocationState:
    """State of an allocation between two steps.

    Attributes:
        table: Iterations of each step if they are fixed in advance, otherwise the minimum of each.
        position: Index of the next step, from 0.
        remaining: Iterations left, an int or one number per sample, (B,).
    """

    table: tuple[int, ...]
    position: int
    remaining: int | Tensor


class Allocation(abc.ABC):
    """Rule for the number of iterations of each step."""

    @abc.abstractmethod
    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        """Return the iterations of each of `steps` steps, noisiest first.

        Raises:
            ValueError: The budget is too small for that many steps.
        """

    def init(self, budget: Budget, steps: int) -> AllocationState:
        """Return the state before the first step."""
        table = self.table(budget, steps)
        return AllocationState(table, 0, sum(table))

    def next(self, state: AllocationState) -> Stop:
        """Return the stopping rule of the next step's solve."""
        return Stop(state.table[state.position])

    def update(self, state: AllocationState, solution: Solution) -> AllocationState:
        """Return the state after a step that ended in `solution`."""
        return replace(state, position=state.position + 1, remaining=state.remaining - solution.iters)


@dataclass(frozen=True)
class Constant(Allocation):
    """The same number for every step; a remainder goes to the cleanest steps, one iteration each."""

    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        return _share(budget, steps, [1] * steps)


@dataclass(frozen=True)
class Increasing(Allocation):
    """Linear from 0.5 to 1.5 times the mean: the cleanest steps get the most iterations."""

    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        # linspace(0.5, 1.5, steps) times 2 (steps - 1): integer weights keep equal shares exactly equal.
        return _share(budget, steps, [steps - 1 + 2 * k for k in range(steps)] if steps > 1 else [1])


@dataclass(frozen=True)
class Decreasing(Allocation):
    """Linear from 1.5 to 0.5 times the mean: the noisiest steps get the most iterations."""

    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        return tuple(reversed(Increasing().table(budget, steps)))


@dataclass(frozen=True)
class Adaptive(Allocation):
    """Iterate each sample until its residual reaches a threshold, or a cap or its budget is exhausted (appendix C).

    The minimum of every later step is reserved, so no sample ever spends more than the budget.

    Attributes:
        threshold: Relative change at which a solve stops.
        cap: Maximum number of iterations per step.
        limited: Respect the budget. `probe` turns this off to see what a threshold would cost.

    Raises:
        ValueError: A field is outside its range.
    """

    threshold: float
    cap: int = 64
    limited: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < math.inf:
            raise ValueError(f"threshold is {self.threshold}; expected a positive number")
        if self.cap < 1:
            raise ValueError(f"cap is {self.cap}; expected 1 or more")

    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        """Return the minimum of each step.

        Raises:
            ValueError: The budget is too small, or the number of iterations cannot be chosen.
        """
        if not budget.adjustable:
            raise ValueError(
                "allocation is 'adaptive', which needs a fixed point, but this model's middle is a stack of blocks; "
                "use 'constant'"
            )
        budget.iterations(steps)  # raises if too small
        return (budget.allowed.start,) * steps

    def init(self, budget: Budget, steps: int) -> AllocationState:
        return AllocationState(self.table(budget, steps), 0, budget.iterations(steps))

    def next(self, state: AllocationState) -> Stop:
        if not self.limited:
            return Stop(self.cap, tol=self.threshold)
        spare = torch.as_tensor(state.remaining) - sum(state.table[state.position + 1 :])  # () or (B,)
        return Stop(spare.clamp(max=self.cap), tol=self.threshold)


@dataclass(frozen=True)
class Probed:
    """Result of `probe`.

    Attributes:
        allocation: Adaptive allocation with the threshold found, limited to the budget.
        passes: Mean block passes per sample of this threshold on the probe batch without that limit. NaN if no probe
            stayed within the budget; the threshold is then the loosest of the bracket.
        probes: Number of batches sampled to find it.
    """

    allocation: Adaptive
    passes: float
    probes: int


def probe(
    budget: Budget,
    steps: int,
    run: Callable[[Adaptive], float],
    *,
    cap: int = 64,
    tolerance: float = 0.02,
    max_probes: int = 10,
    bracket: tuple[float, float] = (1e-6, 1.0),
) -> Probed:
    """Find the threshold whose mean cost on one batch is below the budget by at most `tolerance` (appendix C).

    Bisects the logarithm of the threshold. If no probe comes that close, the most expensive one within the budget wins.

    Args:
        budget: Budget to spend.
        steps: Number of steps.
        run: Samples one batch with the given allocation; returns the mean iterations per sample, summed over the steps.
        cap: Maximum number of iterations per step.
        tolerance: Relative distance to the budget at which to stop.
        max_probes: Maximum number of batches to sample.
        bracket: Smallest and largest threshold to consider.

    Raises:
        ValueError: The budget is too small for the steps, or the number of iterations cannot be chosen.
    """
    Adaptive(bracket[1], cap).table(budget, steps)  # raises if there is nothing to probe
    low, high = math.log(bracket[0]), math.log(bracket[1])
    best = Probed(Adaptive(bracket[1], cap), math.nan, 0)
    for count in range(1, max_probes + 1):
        best = replace(best, probes=count)
        middle = (low + high) / 2.0
        allocation = Adaptive(math.exp(middle), cap, limited=False)
        passes = budget.spent(steps, run(allocation))
        if passes > budget.passes:
            low = middle
        else:
            high = middle
            best = Probed(replace(allocation, limited=True), passes, count)
            if passes >= (1.0 - tolerance) * budget.passes:
                break
    return best


def _share(budget: Budget, steps: int, weights: list[int]) -> tuple[int, ...]:
    """Split the budget's iterations in proportion to increasing `weights`, giving every step at least its minimum.

    Uses the method of largest remainders in exact arithmetic. Ties go to the cleaner step, so the table is increasing.
    """
    total, least = budget.iterations(steps), budget.allowed.start
    table = [least] * steps
    for start in range(steps):
        # The steps before `start` get the minimum, because their share is smaller; the others share the rest.
        left, share = total - least * start, sum(weights[start:])
        if left * weights[start] < least * share:
            continue
        exact = [Fraction(left * w, share) for w in weights[start:]]
        table[start:] = [math.floor(e) for e in exact]
        short = total - sum(table)
        order = sorted(range(len(exact)), key=lambda k: (exact[k] - math.floor(exact[k]), k), reverse=True)
        for k in order[:short]:
            table[start + k] += 1
        break
    return tuple(table)


ALLOCATIONS: dict[str, Allocation] = {"constant": Constant(), "increasing": Increasing(), "decreasing": Decreasing()}
"""Allocations that need no probing, by name."""
