"""Budgets in block passes, the paper's currency (Sec. 4.2, footnote 4), and what a plan costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fpdm.models.cost import ModelCost


@dataclass(frozen=True)
class Budget:
    """Block passes to spend on one sample.

    Guidance evaluates the network twice per step; a budget counts each step once, as the paper does.

    Attributes:
        passes: Block passes.
        explicit: Block passes of a step outside the middle.
        per_iteration: Block passes of one iteration.
        allowed: The numbers of iterations that the middle can be asked for.

    Raises:
        ValueError: `passes` does not pay for a single step.
    """

    passes: int
    explicit: int
    per_iteration: int
    allowed: range

    def __post_init__(self) -> None:
        if self.passes < self.cost([self.allowed.start]):
            raise ValueError(
                f"a budget of {self.passes} block passes is below one step; expected at least "
                f"{self.cost([self.allowed.start])} ({self._step_in_words()})"
            )

    @classmethod
    def of(cls, passes: int, cost: ModelCost) -> Budget:
        """The budget of `passes` block passes for a model with this cost."""
        return cls(passes, cost.explicit, cost.middle.passes, cost.middle.iterations)

    @property
    def adjustable(self) -> bool:
        """Whether the middle leaves the number of iterations to be chosen."""
        return len(self.allowed) > 1

    def cost(self, table: Sequence[int]) -> int:
        """Block passes of a plan that gives each step these iterations."""
        return int(self.spent(len(table), sum(table)))

    def spent(self, steps: int, iterations: float) -> float:
        """Block passes of `steps` steps with `iterations` iterations in all (footnote 4); a mean may be a fraction."""
        return steps * self.explicit + iterations * self.per_iteration

    def steps(self, iterations: int | None = None) -> int:
        """The most steps that can be paid for with `iterations` each (None: the middle's only answer).

        Raises:
            ValueError: The middle cannot be asked for that, or it must be chosen, or one step is too dear.
        """
        if iterations is None:
            if self.adjustable:
                raise ValueError(
                    "the number of iterations per step is missing; this model leaves it to you: give 1 or more"
                )
            iterations = self.allowed.start
        if iterations not in self.allowed:
            if not self.adjustable:
                raise ValueError(
                    f"iterations is {iterations}, but this model's middle is a stack of {self.allowed.start} blocks; "
                    f"leave it out or give {self.allowed.start}"
                )
            raise ValueError(f"iterations is {iterations}; expected {self.allowed.start} or more")
        steps = self.passes // self.cost([iterations])
        if not steps:
            raise ValueError(
                f"a budget of {self.passes} block passes is below one step of {iterations} iterations; expected at "
                f"least {self.cost([iterations])}"
            )
        return steps

    def iterations(self, steps: int) -> int:
        """Iterations to share out over `steps` steps, so that as little as possible stays unspent.

        Raises:
            ValueError: The budget is below the least that this many steps cost.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}; expected 1 or more")
        least = steps * self.cost([self.allowed.start])
        if self.passes < least:
            raise ValueError(
                f"a budget of {self.passes} block passes is too small for {steps} steps; expected at least {least} "
                f"({steps} x ({self._step_in_words()}))"
            )
        affordable = (self.passes - steps * self.explicit) // self.per_iteration if self.per_iteration else 0
        return min(affordable, steps * self.allowed[-1])

    def _step_in_words(self) -> str:
        each = (
            f"{self.allowed.start} iterations of {self.per_iteration}"
            if self.adjustable
            else f"{self.allowed.start} blocks"
        )
        return f"{self.explicit} explicit blocks + {each}"
