"""The sampling plan: how to spend a budget on a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SAMPLERS = ("ddim", "ddpm", "second-order", "dpmsolver++", "unipc")
ADAPTIVE = "adaptive"
ALLOCATION_NAMES = ("constant", "increasing", "decreasing", ADAPTIVE)
SOLVER_NAMES = ("picard", "anderson")


@dataclass(frozen=True)
class Plan:
    """How to spend a budget on a sample.

    Attributes:
        budget: Block passes per sample (paper Sec. 4.2).
        iterations: Fixed-point iterations per step, which determine how many steps the budget affords; 0 for a model
            without that choice, such as a DiT.
        sampler: "ddim", "ddpm", "second-order", "dpmsolver++" or "unipc".
        grid: Timestep grid: "trailing", "linspace" or "phi^P" with a number P, such as "phi^1.5".
        allocation: How iterations are divided over the steps: "constant", "increasing", "decreasing" or "adaptive".
        reuse: Start each solve from the previous step's solution.
        guidance: Scale of classifier-free guidance; 1 turns it off.
        solver: Fixed-point solver, "picard" or "anderson".

    Raises:
        ValueError: An allocation or solver is unknown, or a number is out of range.
    """

    budget: int
    iterations: int = 0
    sampler: str = "ddim"
    grid: str = "trailing"
    allocation: Literal["constant", "increasing", "decreasing", "adaptive"] = "constant"
    reuse: bool = True
    guidance: float = 1.0
    solver: Literal["picard", "anderson"] = "picard"

    def __post_init__(self) -> None:
        if self.budget < 1 or self.iterations < 0:
            raise ValueError(
                f"budget {self.budget} and iterations {self.iterations}; expected a positive number of block passes, "
                "and iterations of at least 1 (or none, for a model that leaves no choice)"
            )
        if self.allocation not in ALLOCATION_NAMES:
            raise ValueError(f"allocation is {self.allocation!r}; expected one of {', '.join(ALLOCATION_NAMES)}")
        if self.solver not in SOLVER_NAMES:
            raise ValueError(f"solver is {self.solver!r}; expected one of {', '.join(SOLVER_NAMES)}")
