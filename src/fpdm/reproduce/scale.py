"""The size of a reproduction: its data, models, training compute and numbers of images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from fpdm.configuration import PositiveInt, PositiveNumber, configuration
from fpdm.outputs import OutputFolder

REPRODUCTION = OutputFolder("reproduce", "scale.json", frozenset({"macs", "width"}), frozenset({"scale.json"}))


@configuration
class Scale:
    """Everything that is the same for all rows of a reproduction.

    Attributes:
        name: "full" or "quick".
        data: The data set: fashion-mnist as latents of a small autoencoder, or digits as pixels.
        width: Width of all models.
        heads: Attention heads of all models.
        batch_size: Images per training step.
        macs: Training compute of each model of Table 1 and of the small DiTs, in multiply-accumulates.
        ablation_macs: Training compute of each model of an ablation.
        fpdm_rate: Learning rate of FPDM, chosen by the pilot.
        dit_rate: Learning rate of DiTs, chosen by the pilot.
        depth: Blocks of the deep DiT, and so block passes of one of its steps.
        seeds: Training seeds of Table 1's models and the small DiTs; ablations use the first.
        budgets: Block passes per image of Table 1.
        images: Images per cell of Table 1.
        fewer_images: Images per cell elsewhere.
        choosing_images: Images by which a plan is chosen, measured against validation images.

    Raises:
        ValueError: A number out of range.
    """

    name: Literal["full", "quick"]
    data: Literal["fashion-mnist", "digits"]
    width: PositiveInt
    heads: PositiveInt
    batch_size: PositiveInt
    macs: PositiveNumber
    ablation_macs: PositiveNumber
    fpdm_rate: PositiveNumber
    dit_rate: PositiveNumber
    depth: Annotated[int, Ge(3)]
    seeds: Annotated[tuple[int, ...], MinLen(1)]
    budgets: Annotated[tuple[PositiveInt, ...], MinLen(1)]
    images: PositiveInt
    fewer_images: PositiveInt
    choosing_images: PositiveInt

    @property
    def on_latents(self) -> bool:
        """Whether the models work on latents."""
        return self.data == "fashion-mnist"

    @property
    def choices(self) -> dict[str, Any]:
        """Return what a plan is chosen from, as fields of `compare.settings.Settings`, where it is less than usual."""
        if self.name == "full":
            return {}
        return {"iterations": (2, 5), "grids": ("trailing",), "allocations": ("constant", "increasing")}

    @property
    def steps_of_dit(self) -> tuple[int, ...]:
        """Sampling steps that the deep DiT can afford at each budget."""
        return tuple(budget // self.depth for budget in self.budgets)


FULL = Scale(
    name="full",
    data="fashion-mnist",
    width=64,
    heads=4,
    batch_size=128,
    macs=91e12,
    ablation_macs=9.1e12,
    fpdm_rate=4e-3,
    dit_rate=4e-3,
    depth=28,
    seeds=(0, 1, 2),
    budgets=(140, 280, 560),
    images=10_000,
    fewer_images=2_000,
    choosing_images=500,
)
QUICK = Scale(
    name="quick",
    data="digits",
    width=16,
    heads=2,
    batch_size=16,
    macs=2e8,
    ablation_macs=1e8,
    fpdm_rate=2e-3,
    dit_rate=2e-3,
    depth=28,
    seeds=(0,),
    budgets=(140,),
    images=40,
    fewer_images=20,
    choosing_images=20,
)
"""Runs every line of the code in minutes; its figures mean nothing."""
