"""Measurements that nobody made, with distances as they could be."""

from __future__ import annotations

from collections.abc import Callable

from fpdm.compare.results import Result
from fpdm.reproduce.bench import Cell
from fpdm.reproduce.scale import QUICK
from fpdm.reproduce.study import Claim, Measured, Measurements, Page, Study, key_of

SCALE = QUICK


def measured(cell: Cell, distance: float) -> Measured:
    """A cell with this distance, whose interval is 1 % to both sides."""
    plan = cell.plan
    result = Result(
        model=cell.training.model.name,
        run="",
        parameters=1000,
        sampler=plan.sampler,
        grid=plan.grid,
        budget=plan.budget,
        iterations=plan.iterations or 5,
        steps=plan.budget // (2 + (plan.iterations or 5)),
        allocation=plan.allocation,
        reuse=plan.reuse,
        guidance=plan.guidance,
        candidates=1,
        passes=plan.budget,
        macs=1e6,
        seconds=0.1,
        distance=distance,
        distance_low=distance * 0.99,
        distance_high=distance * 1.01,
        distance_floor=0.1,
        kid=0.0,
        kid_low=0.0,
        kid_high=0.0,
        kid_floor=0.0,
        floor_images=cell.images,
        precision=1.0,
        recall=1.0,
        novelty=1.0,
        images=cell.images,
        seed=0,
        self_guidance=plan.self_guidance,
        weak_depth=1 if plan.self_guidance else None,
    )
    return Measured(key_of(cell, SCALE), result.model, cell.training.seed, cell.chosen, plan.solver, result)


def page(study: Study, distance: Callable[[Cell], float], **findings: object) -> Page:
    """The page of a study whose cells have these distances."""
    return study.page(SCALE, Measurements([measured(cell, distance(cell)) for cell in study.cells(SCALE)], findings))


def verdicts(study: Study, distance: Callable[[Cell], float], **findings: object) -> list[str]:
    """The verdicts of its claims."""
    return [claim.verdict for claim in page(study, distance, **findings).claims]


def unmeasured(study: Study) -> list[Claim]:
    """The claims of a study without any measurement."""
    return [*study.page(SCALE, Measurements([], {})).claims]
