"""Who gets the iterations: how a budget is shared out over the timesteps, in SAMPLING order (the noisiest step first).

`Constant`, `Increasing` and `Decreasing` fix a table beforehand that sums exactly to the budget (paper Sec. 3.3,
Table 5); `Adaptive` lets each sample iterate until it has converged (appendix C). State goes in and comes out.
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
    """Where an allocation stands.

    Attributes:
        table: The iterations of each step, where they are fixed beforehand; else the least of each.
        position: The next step, counted from 0.
        remaining: Iterations left, an int or one for each sample, (B,).
    """

    table: tuple[int, ...]
    position: int
    remaining: int | Tensor


class Allocation(abc.ABC):
    """How many iterations each step gets."""

    @abc.abstractmethod
    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        """The iterations of each of `steps` steps, noisiest first.

        Raises:
            ValueError: The budget is too small for that many steps.
        """

    def init(self, budget: Budget, steps: int) -> AllocationState:
        """The state before the first step."""
        table = self.table(budget, steps)
        return AllocationState(table, 0, sum(table))

    def next(self, state: AllocationState) -> Stop:
        """When the next step's solve is to stop."""
        return Stop(state.table[state.position])

    def update(self, state: AllocationState, solution: Solution) -> AllocationState:
        """The state after a step that ended in `solution`."""
        return replace(state, position=state.position + 1, remaining=state.remaining - solution.iters)


@dataclass(frozen=True)
class Constant(Allocation):
    """The same for every step; what does not divide goes to the cleanest steps, one each."""

    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        """The iterations of each step."""
        return _share(budget, steps, [1] * steps)


@dataclass(frozen=True)
class Increasing(Allocation):
    """Linear from 0.5 to 1.5 times the mean: most iterations for the cleanest steps."""

    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        """The iterations of each step."""
        # linspace(0.5, 1.5, steps) times 2 (steps - 1): integers, so that equal shares are equal exactly.
        return _share(budget, steps, [steps - 1 + 2 * k for k in range(steps)] if steps > 1 else [1])


@dataclass(frozen=True)
class Decreasing(Allocation):
    """Linear from 1.5 to 0.5 times the mean: most iterations for the noisiest steps."""

    def table(self, budget: Budget, steps: int) -> tuple[int, ...]:
        """The iterations of each step."""
        return tuple(reversed(Increasing().table(budget, steps)))


@dataclass(frozen=True)
class Adaptive(Allocation):
    """Each sample iterates until its residual is at or below a threshold, a cap, or the end of its budget (appendix C).

    Every later step keeps what it needs at least, so no sample ever spends more than the budget.

    Attributes:
        threshold: The relative change at which a solve stops.
        cap: Iterations of one step at most.
        limited: Hold to the budget; `probe` switches it off to see what a threshold would cost.

    Raises:
        ValueError: A field outside its range.
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
        """The least that each step needs.

        Raises:
            ValueError: The budget is too small, or the middle leaves nothing to adapt.
        """
        if not budget.adjustable:
            raise ValueError("an adaptive allocation needs a fixed point; this model's middle is a stack of blocks")
        budget.iterations(steps)  # raises if too small
        return (budget.allowed.start,) * steps

    def init(self, budget: Budget, steps: int) -> AllocationState:
        """The state before the first step."""
        return AllocationState(self.table(budget, steps), 0, budget.iterations(steps))

    def next(self, state: AllocationState) -> Stop:
        """The threshold, and what the budget still allows."""
        if not self.limited:
            return Stop(self.cap, tol=self.threshold)
        spare = torch.as_tensor(state.remaining) - sum(state.table[state.position + 1 :])  # () or (B,)
        return Stop(spare.clamp(max=self.cap), tol=self.threshold)


@dataclass(frozen=True)
class Probed:
    """What `probe` found.

    Attributes:
        allocation: With the threshold found, and held to the budget.
        passes: Block passes per sample that it would spend on the probe batch if it were not; nan if no probe stayed
            within the budget, and the threshold is the loosest.
        probes: Batches that were sampled to find it.
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
    """Find the threshold whose mean cost on one batch is within `tolerance` of the budget, not above (appendix C).

    Bisects the logarithm of the threshold. If no probe comes that close, the dearest one below the budget is taken.

    Args:
        budget: What to spend.
        steps: Over how many steps.
        run: Samples one batch with the given allocation; returns the mean iterations per sample, over all steps.
        cap: Iterations of one step at most.
        tolerance: How near to the budget, relatively.
        max_probes: How many batches at most.
        bracket: Thresholds between which to look.

    Raises:
        ValueError: The budget is too small for the steps, or the middle leaves nothing to adapt.
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
    """Split the budget's iterations by `weights` (increasing), by largest remainders, each step getting its least.

    Exact arithmetic; ties go to the cleaner step; a table from increasing weights is increasing.
    """
    total, least = budget.iterations(steps), budget.allowed.start
    table = [least] * steps
    for start in range(steps):
        # Steps before `start` would get less than the least: they get it, and the rest share what is left.
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
"""The allocations that need no probing, by name."""
