"""The settings of a comparison."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from fpdm.compare.search import Choices
from fpdm.configuration import (
    BatchSize,
    BlockPasses,
    NoiseSeed,
    NonNegativeInt,
    NonNegativeNumber,
    PositiveInt,
    configuration,
)
from fpdm.outputs import OutputFolder
from fpdm.sampling.plan import AllocationName, Grid, Plan, SamplerName

SHOWN = 12  # images per model and budget in the pictures
COMPARISON = OutputFolder("compare", "compare.json", frozenset({"models", "rows"}))


ImageCount = Annotated[PositiveInt, Ge(SHOWN)]


@configuration
class Settings:
    """How to compare runs.

    Attributes:
        budgets: Block passes per image. DiT-XL spends 28 per step.
        samplers: Samplers, each with its own rows: ddim, ddpm, second-order, dpmsolver++ or unipc.
        iterations: Fixed-point iterations per step to choose from; models without a fixed point ignore them.
        reuse: Start each solve from the previous step's solution: always, never, or choose, which tries both.
        grids: Timestep grids to choose from: trailing, linspace or phi^P, in which P above 1 puts more steps near the
            clean image.
        allocations: Allocations of the iterations to choose from: constant, increasing, decreasing or adaptive.
        guidance: Scale of classifier-free guidance; 1 turns it off.
        self_guidance: Weights of self-guidance to choose from, such as 0 0.15 0.4 1 2; 0 is without. It is chosen last.
        weak_depths: Depths of its weaker answer to choose from, as in `fpdm sample`; those that a model does not have
            are left out. Empty for the model's usual one and the next.
        self_guidance_range: The lowest and the highest timestep that are guided by it; empty for all.
        num_images: Number of images generated per row, at least 12: one number for all budgets, or one for each.
        choosing_images: Number of images generated to try a plan on the validation split.
        sweep: Also plot the distance over these numbers of iterations, with the first sampler, the chosen grid and
            reuse, and a constant allocation.
        sweep_images: Number of images per point of the sweep.
        batch_size: Images generated at once; affects speed and memory only.
        seed: Seed of the noise, which is the same for all models. Plans are chosen with another seed.

    Raises:
        ValueError: A number out of range, or nothing to choose from.
    """

    budgets: Annotated[tuple[BlockPasses, ...], MinLen(1)] = (140, 280, 560)
    samplers: Annotated[tuple[SamplerName, ...], MinLen(1)] = ("ddim",)
    iterations: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (1, 2, 3, 5, 8, 12)
    reuse: Literal["choose", "always", "never"] = "choose"
    grids: Annotated[tuple[Grid, ...], MinLen(1)] = ("trailing", "phi^1", "phi^1.5")
    allocations: Annotated[tuple[AllocationName, ...], MinLen(1)] = ("constant", "increasing", "decreasing")
    guidance: NonNegativeNumber = 1.0
    self_guidance: Annotated[tuple[NonNegativeNumber, ...], MinLen(1)] = (0.0,)
    weak_depths: tuple[NonNegativeInt, ...] = ()
    self_guidance_range: tuple[NonNegativeInt, ...] = ()
    num_images: Annotated[tuple[ImageCount, ...], MinLen(1)] = (1000,)
    choosing_images: ImageCount = 200
    sweep: tuple[PositiveInt, ...] = ()
    sweep_images: ImageCount = 1000
    batch_size: BatchSize = 250
    seed: NoiseSeed = 0

    def __post_init__(self) -> None:
        if len(self.num_images) not in (1, len(self.budgets)):
            raise ValueError(
                f"num_images is {self.num_images}, budgets {self.budgets}; expected one number, or one for each budget"
            )

        # A plan checks the range, if there is anything for it to act on.
        if any(self.self_guidance):
            Plan(1, self_guidance=max(self.self_guidance), self_guidance_range=self.self_guidance_range)
        elif self.weak_depths or self.self_guidance_range:
            name = "weak_depths" if self.weak_depths else "self_guidance_range"
            raise ValueError(f"{name} is given, but self_guidance is 0; give its weights too, such as 0 0.4 1")

    def images_at(self, budget: int) -> int:
        """Return the number of images per row at this budget."""
        return self.num_images[self.budgets.index(budget) if len(self.num_images) > 1 else 0]

    @property
    def choices(self) -> Choices:
        """The alternatives that a plan is chosen from."""
        return Choices(
            self.iterations,
            REUSE[self.reuse],
            self.grids,
            self.allocations,
            self.self_guidance,
            self.weak_depths,
            self.self_guidance_range,
        )


REUSE = {"choose": (True, False), "always": (True,), "never": (False,)}
