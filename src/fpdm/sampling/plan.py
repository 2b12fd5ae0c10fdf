"""The sampling plan: how to spend a budget on a sample."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from annotated_types import Le
from pydantic import AfterValidator

from fpdm.configuration import BlockPasses, NonNegativeInt, NonNegativeNumber, configuration
from fpdm.models.cost import ModelCost
from fpdm.sampling.timesteps import check_grid

SamplerName = Literal["ddim", "ddpm", "second-order", "dpmsolver++", "unipc"]
AllocationName = Literal["constant", "increasing", "decreasing", "adaptive"]
SolverName = Literal["picard", "anderson"]
Grid = Annotated[str, AfterValidator(check_grid)]
DEFAULT_BUDGET = 140  # block passes per image: 5 steps of a DiT of 28 blocks, the smallest budget of the paper
DEFAULT_ITERATIONS = 5  # where neither the user nor the model decides


@configuration
class Plan:
    """How to spend a budget on a sample.

    Attributes:
        budget: Block passes per sample (paper Sec. 4.2).
        iterations: Fixed-point iterations per step, which determine how many steps the budget affords; 0 for 5, or
            for the only number that the model allows.
        sampler: Sampling method: "ddim", "ddpm", "second-order", "dpmsolver++" or "unipc".
        grid: Timestep grid: "trailing" and "linspace" are even in the timestep; "phi^P" with a number P, such as
            "phi^1.5", lets the noise angle phi = atan2(sigma, alpha) fall as (1 - k/steps)^P, so that P above 1 puts
            more steps near the clean image.
        allocation: How iterations are divided over the steps: "constant", "increasing", "decreasing" or "adaptive".
        reuse: Start each solve from the previous step's solution.
        guidance: Scale of classifier-free guidance; 1 turns it off.
        solver: Fixed-point solver, "picard" or "anderson".
        self_guidance: Weight of self-guidance, which steers each prediction away from a weaker answer of the same
            model; 0 turns it off. Its block passes are within the budget.
        weak_depth: Depth of the weaker answer: iterations of a fixed point from a cold start, or blocks of a stack, the
            rest of which is skipped. None for 1, or 0 with the linear injection or a stack.
        self_guidance_range: The lowest and the highest timestep that are guided by it; empty for all.

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
    self_guidance: NonNegativeNumber = 0.0
    weak_depth: Annotated[NonNegativeInt, Le(10**7)] | None = None
    self_guidance_range: tuple[NonNegativeInt, ...] = ()

    def __post_init__(self) -> None:
        between = self.self_guidance_range
        if between and (len(between) != 2 or between[0] > between[1]):
            raise ValueError(f"self_guidance_range is {between}; expected two timesteps, the lower one first")
        if not self.self_guidance and (between or self.weak_depth is not None):
            name = "self_guidance_range" if between else "weak_depth"
            raise ValueError(f"{name} is given, but self_guidance is 0; give its weight too, such as 1")

    @property
    def adaptive(self) -> bool:
        """Whether each sample iterates until it has converged, so that iterations are not fixed beforehand."""
        return self.allocation == "adaptive"

    @property
    def evaluations(self) -> int:
        """Number of samples that the network evaluates per sample and step: 2 with guidance, with and without class."""
        return 1 if self.guidance == 1.0 else 2

    def in_words(self) -> str:
        """Describe everything but the budget, as "ddim, trailing, 5 iterations, constant, reuse"."""
        return ", ".join(
            [
                self.sampler,
                self.grid,
                *([f"{self.iterations} iterations"] if self.iterations else []),
                self.allocation,
                "reuse" if self.reuse else "no reuse",
                *([self.solver] if self.solver != "picard" else []),
                *([f"guidance {self.guidance:g}"] if self.guidance != 1.0 else []),
                *([self.self_guidance_in_words()] if self.self_guidance else []),
            ]
        )

    def self_guidance_in_words(self) -> str:
        """Describe the self-guidance, as "self-guidance 1, weak depth 2, timesteps 0 to 500"."""
        depth = "" if self.weak_depth is None else f", weak depth {self.weak_depth}"
        between = self.self_guidance_range
        return f"self-guidance {self.self_guidance:g}{depth}" + (
            f", timesteps {between[0]} to {between[1]}" if between else ""
        )

    def values(self) -> dict[str, Any]:
        """Return the fields as JSON values; without those of self-guidance if it is off, as in older records."""
        values = {**asdict(self), "self_guidance_range": list(self.self_guidance_range)}
        if not self.self_guidance:
            for name in ("self_guidance", "weak_depth", "self_guidance_range"):
                del values[name]
        return values

    def with_iterations(self, cost: ModelCost) -> Plan:
        """Return the plan with 5 iterations per step, if it leaves their number open and a model of this cost does."""
        if self.iterations or not cost.middle.adjustable:
            return self
        return replace(self, iterations=DEFAULT_ITERATIONS)


def macs_per_image(plan: Plan, cost: ModelCost) -> float:
    """Estimate the multiply-accumulates of an image, as if every step were alike and all passes were spent.

    Args:
        plan: The plan; if it leaves the number of iterations open, they are 5.
        cost: Cost of the model.
    """
    iterations = plan.with_iterations(cost).iterations or cost.middle.iterations.start
    return plan.budget * cost.evaluation_macs(iterations) / cost.passes(iterations)
