"""Sampling budgets in block passes, the paper's unit of compute (Sec. 4.2, footnote 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fpdm.models.cost import ModelCost


@dataclass(frozen=True)
class Budget:
    """Block passes available for one sample.

    Guidance evaluates the network twice per step; a budget counts each step once, as the paper does. The weaker answers
    of self-guidance are counted.

    Attributes:
        passes: Number of block passes.
        explicit: Block passes per step outside the middle.
        per_iteration: Block passes per iteration of the middle.
        allowed: Numbers of iterations that the middle supports.
        weaker: Block passes of weaker answers over all steps, which are set aside.

    Raises:
        ValueError: `passes` is too small for a single step.
    """

    passes: int
    explicit: int
    per_iteration: int
    allowed: range
    weaker: int = 0

    def __post_init__(self) -> None:
        if self.passes < self.cost([self.allowed.start]):
            raise ValueError(
                f"a budget of {self.passes} block passes is below one step; expected at least "
                f"{self.cost([self.allowed.start])} ({self._step_in_words()})"
            )

    @classmethod
    def of(cls, passes: int, cost: ModelCost, *, weaker: int = 0) -> Budget:
        """Create a budget of `passes` block passes, of which `weaker` are set aside, for a model with this cost."""
        return cls(passes, cost.explicit, cost.middle.passes, cost.middle.iterations, weaker)

    @property
    def adjustable(self) -> bool:
        """Whether the number of iterations can be chosen at sampling time."""
        return len(self.allowed) > 1

    def cost(self, table: Sequence[int]) -> int:
        """Count the block passes of steps with these numbers of iterations."""
        return int(self.spent(len(table), sum(table)))

    def spent(self, steps: int, iterations: float) -> float:
        """Count the block passes of `steps` steps with a total of `iterations`, which may be a fractional mean.

        Those that are set aside are included.
        """
        return steps * self.explicit + iterations * self.per_iteration + self.weaker

    def steps(self, iterations: int | None = None) -> int:
        """Return the number of steps that the budget affords with `iterations` each.

        Leave `iterations` out if the middle supports only one number.

        Raises:
            ValueError: The middle does not support `iterations`, it has to be given, or a single step costs too much.
        """
        if iterations is None:
            if self.adjustable:
                raise ValueError(
                    "the number of iterations per step is missing; this model lets you choose it: give 1 or more"
                )
            iterations = self.allowed.start
        if iterations not in self.allowed:
            if not self.adjustable:
                raise ValueError(
                    f"iterations is {iterations}, but this model's middle is a stack of {self.allowed.start} blocks; "
                    f"leave it out or give {self.allowed.start}"
                )
            raise ValueError(f"iterations is {iterations}; expected {self.allowed.start} or more")
        steps = (self.passes - self.weaker) // (self.cost([iterations]) - self.weaker)
        if not steps:
            raise ValueError(
                f"a budget of {self.passes} block passes is below one step of {iterations} iterations; expected at "
                f"least {self.cost([iterations])}"
            )
        return steps

    def iterations(self, steps: int) -> int:
        """Return the total number of iterations that the budget affords over `steps` steps.

        Raises:
            ValueError: The budget is smaller than the minimum cost of this many steps.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}; expected 1 or more")
        least = self.cost([self.allowed.start] * steps)
        if self.passes < least:
            besides = f" + {self.weaker} for weaker answers" if self.weaker else ""
            raise ValueError(
                f"a budget of {self.passes} block passes is too small for {steps} steps; expected at least {least} "
                f"({steps} x ({self._step_in_words()}){besides})"
            )
        left = self.passes - self.weaker - steps * self.explicit
        affordable = left // self.per_iteration if self.per_iteration else 0
        return min(affordable, steps * self.allowed[-1])

    def _step_in_words(self) -> str:
        each = (
            f"{self.allowed.start} iterations of {self.per_iteration}"
            if self.adjustable
            else f"{self.allowed.start} blocks"
        )
        return f"{self.explicit} explicit blocks + {each}"
