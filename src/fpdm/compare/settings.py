"""How a comparison is made, as a frozen configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from fpdm.compare.search import Choices
from fpdm.configuration import NonNegativeInt, NonNegativeNumber, PositiveInt, configuration
from fpdm.sampling.plan import AllocationName, Grid, SamplerName

SHOWN = 12  # images per model and budget in the pictures


ImageCount = Annotated[int, Ge(SHOWN)]


@configuration
class Settings:
    """How runs are compared.

    Attributes:
        budgets: Block passes per image; DiT-XL spends 28 per step.
        samplers: Each gets rows of its own: ddim, ddpm, second-order, dpmsolver++ or unipc.
        iterations: Fixed-point iterations per step to choose from, where a model iterates.
        reuse: Whether to start each solve from the last step's solution: choose, always or never.
        grids: Timestep grids to choose from: trailing, linspace or phi^P.
        allocations: Of the iterations over the steps, to choose from: constant, increasing, decreasing or adaptive.
        guidance: Scale of classifier-free guidance; 1 is none.
        num_images: Generated images per row, at least 12: one number for all budgets, or one for each.
        choosing_images: Images of each plan that is tried on the validation split.
        sweep: Also draw the distance over these numbers of iterations: by the first sampler, with grid and reuse as
            chosen and a constant allocation.
        sweep_images: Images per row of the sweep.
        batch_size: Images at once; changes nothing but speed and memory.
        seed: Of the noise, the same for all models. Plans are chosen with another.

    Raises:
        ValueError: A number out of range, or nothing to choose from.
    """

    budgets: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (140, 280, 560)
    samplers: Annotated[tuple[SamplerName, ...], MinLen(1)] = ("ddim",)
    iterations: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (1, 2, 3, 5, 8, 12)
    reuse: Literal["choose", "always", "never"] = "choose"
    grids: Annotated[tuple[Grid, ...], MinLen(1)] = ("trailing", "phi^1", "phi^1.5")
    allocations: Annotated[tuple[AllocationName, ...], MinLen(1)] = ("constant", "increasing", "decreasing")
    guidance: NonNegativeNumber = 1.0
    num_images: Annotated[tuple[ImageCount, ...], MinLen(1)] = (1000,)
    choosing_images: ImageCount = 200
    sweep: tuple[PositiveInt, ...] = ()
    sweep_images: ImageCount = 1000
    batch_size: PositiveInt = 250
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if len(self.num_images) not in (1, len(self.budgets)):
            raise ValueError(
                f"num_images is {self.num_images}, budgets {self.budgets}; expected one number, or one for each budget"
            )

    def images_at(self, budget: int) -> int:
        """Generated images per row at this budget."""
        return self.num_images[self.budgets.index(budget) if len(self.num_images) > 1 else 0]

    @property
    def choices(self) -> Choices:
        """What a plan is chosen from."""
        return Choices(self.iterations, _REUSE[self.reuse], self.grids, self.allocations)


_REUSE = {"choose": (True, False), "always": (True,), "never": (False,)}
