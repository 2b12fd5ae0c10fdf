"""A network with random weights, and settings that are soon done."""

from __future__ import annotations

from pathlib import Path

from fpdm.models.config import as_dit
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from fpdm.tune.settings import TuneSettings
from fpdm.tune.space import Space
from tests import pipelines
from tests.training.small import recipe

QUICK = TuneSettings(
    budgets=(20,),
    samplers=("ddim", "unipc"),
    iterations=(1, 2),
    grids=("trailing", "phi^1.5"),
    allocations=("constant", "increasing"),
    candidates=8,
    first_images=4,
    num_images=40,
    batch_size=20,
)


def run(*, dit: bool = False, folder: Path | None = None) -> Run:
    model = pipelines.network(as_dit(pipelines.SHAPE, 4) if dit else pipelines.SHAPE)
    return Run(recipe(), model, Progress(), "weights", folder=folder)


def space(settings: TuneSettings = QUICK, budget: int = 20, *, dit: bool = False) -> Space:
    return Space(
        run(dit=dit), settings.choices, settings.samplers, budget=budget, guidance=settings.guidance, seed=settings.seed
    )
