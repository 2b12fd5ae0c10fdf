"""The settings of a search for the best plan."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from fpdm.compare.search import Choices
from fpdm.compare.settings import REUSE
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
from fpdm.sampling.plan import DEFAULT_BUDGET, AllocationName, Grid, SamplerName

TUNING = OutputFolder("tune", "tune.json", frozenset({"run", "budgets"}))
_CANDIDATES = 64
FACTOR = 3  # by which the number of images grows from round to round

Several = Annotated[PositiveInt, Ge(2)]  # images, which a kernel distance takes pairs of


@configuration
class TuneSettings:
    """How to search the best plan for a budget.

    Attributes:
        budgets: Block passes per image, of one budget or of several, which are searched one after the other.
        samplers: Samplers to choose from: ddim, ddpm, second-order, dpmsolver++ or unipc.
        iterations: Fixed-point iterations per step to choose from; models without a fixed point ignore them.
        reuse: Start each solve from the previous step's solution: always, never, or choose, which tries both.
        grids: Timestep grids to choose from: trailing, linspace or phi^P.
        allocations: Allocations of the iterations to choose from: constant, increasing, decreasing or adaptive.
        guidance: Scale of classifier-free guidance of all plans; 1 turns it off.
        self_guidance: Weights of self-guidance to choose from; 0 is without.
        weak_depths: Depths of its weaker answer to choose from, as in `fpdm sample`; those that the model does not have
            are left out. Empty for the model's usual one and the next.
        candidates: Number of plans that the search begins with; all, if the model has fewer.
        first_images: Number of images that each of these is judged by.
        num_images: Number of images that the last plans are judged by.
        batch_size: Images generated at once; affects speed and memory only.
        seed: Seed of the noise, which is the same for all plans, and of the choice of plans to try.

    Raises:
        ValueError: A number out of range, or nothing to choose from.
    """

    budgets: Annotated[tuple[BlockPasses, ...], MinLen(1)] = (DEFAULT_BUDGET,)
    samplers: Annotated[tuple[SamplerName, ...], MinLen(1)] = ("ddim", "ddpm", "second-order", "dpmsolver++", "unipc")
    iterations: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (1, 2, 3, 5, 8, 12)
    reuse: Literal["choose", "always", "never"] = "choose"
    grids: Annotated[tuple[Grid, ...], MinLen(1)] = ("trailing", "phi^0.75", "phi^1", "phi^1.25", "phi^1.5", "phi^2")
    allocations: Annotated[tuple[AllocationName, ...], MinLen(1)] = ("constant", "increasing", "decreasing")
    guidance: NonNegativeNumber = 1.0
    self_guidance: Annotated[tuple[NonNegativeNumber, ...], MinLen(1)] = (0.0, 0.4, 1.0)
    weak_depths: tuple[NonNegativeInt, ...] = ()
    candidates: PositiveInt = _CANDIDATES
    first_images: Several = 40
    num_images: Several = 1080
    batch_size: BatchSize = 250
    seed: NoiseSeed = 0

    def __post_init__(self) -> None:
        if FACTOR**2 * self.first_images > self.num_images:
            raise ValueError(
                f"num_images is {self.num_images}; expected at least {FACTOR**2} times first_images, "
                f"{FACTOR**2 * self.first_images}, for three rounds of ever more images"
            )
        one, guided = self.choices, len(self.self_guidance) * max(len(self.weak_depths), 2)
        axes = (self.samplers, one.iterations, one.reuse, one.grids, one.allocations)
        most = max(math.prod(map(len, axes)) * (1 if 0 in self.self_guidance else guided), _CANDIDATES)
        if self.candidates > most:
            raise ValueError(
                f"candidates is {self.candidates}; expected at most {most}: these choices make no more plans"
            )

    @property
    def sizes(self) -> list[int]:
        """Number of images that plans are judged by in each round."""
        sizes = [self.num_images]
        while sizes[0] // FACTOR >= self.first_images:
            sizes.insert(0, sizes[0] // FACTOR)
        return sizes

    def kept(self, round_: int) -> int:
        """Return the number of plans that enter a round from the one before it."""
        return self.candidates if round_ == 0 else max(self.candidates // 2 ** (round_ + 1), 1)

    @property
    def choices(self) -> Choices:
        """The alternatives that a plan is chosen from."""
        return Choices(
            self.iterations, REUSE[self.reuse], self.grids, self.allocations, self.self_guidance, self.weak_depths
        )
