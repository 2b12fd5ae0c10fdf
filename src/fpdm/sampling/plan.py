"""The sampling plan: how to spend a budget on a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Le
from pydantic import AfterValidator

from fpdm.configuration import BlockPasses, NonNegativeInt, NonNegativeNumber, configuration
from fpdm.models.cost import ModelCost
from fpdm.sampling.timesteps import check_grid

SamplerName = Literal["ddim", "ddpm", "second-order", "dpmsolver++", "unipc"]
AllocationName = Literal["constant", "increasing", "decreasing", "adaptive"]
SolverName = Literal["picard", "anderson"]
Grid = Annotated[str, AfterValidator(check_grid)]
DEFAULT_ITERATIONS = 5  # where neither the user nor the model decides


@configuration
class Plan:
    """How to spend a budget on a sample.

    Attributes:
        budget: Block passes per sample (paper Sec. 4.2).
        iterations: Fixed-point iterations per step, which determine how many steps the budget affords; 0 for 5, or
            for the only number that the model allows.
        sampler: Sampling method: "ddim", "ddpm", "second-order", "dpmsolver++" or "unipc".
        grid: Timestep grid: "trailing", "linspace" or "phi^P" with a number P, such as "phi^1.5".
        allocation: How iterations are divided over the steps: "constant", "increasing", "decreasing" or "adaptive".
        reuse: Start each solve from the previous step's solution.
        guidance: Scale of classifier-free guidance; 1 turns it off.
        solver: Fixed-point solver, "picard" or "anderson".

    Raises:
        ValueError: A name is unknown, or a number is out of range.
    """

    budget: BlockPasses
    iterations: Annotated[NonNegativeInt, Le(10**7)] = 0
    sampler: SamplerName = "ddim"
    grid: Grid = "trailing"
    allocation: AllocationName = "constant"
    reuse: bool = True
    guidance: NonNegativeNumber = 1.0
    solver: SolverName = "picard"

    @property
    def adaptive(self) -> bool:
        """Whether each sample iterates until it has converged, so that iterations are not fixed beforehand."""
        return self.allocation == "adaptive"

    def with_iterations(self, cost: ModelCost) -> Plan:
        """Return the plan with 5 iterations per step, if it leaves their number open and a model of this cost does."""
        if self.iterations or not cost.middle.adjustable:
            return self
        return replace(self, iterations=DEFAULT_ITERATIONS)
