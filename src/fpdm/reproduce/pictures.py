"""The paper's pictures: samples of the same noise, and how the iterations are spread."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fpdm.compare.results_cache import draw
from fpdm.drawing.plots import Curve, Curves, Panel
from fpdm.drawing.sheets import Row, Sheet
from fpdm.models.cost import model_cost
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.models import FPDM, Model, Training, deep_dit
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Measurements, Page, Study, Table
from fpdm.runs.run import Run
from fpdm.sampling.allocation import ALLOCATIONS
from fpdm.sampling.budget import Budget
from fpdm.sampling.plan import Plan

BUDGET = 560
SAMPLER = "ddpm"
SEED = 2024
"""Of the noise of all pictures. It was not chosen among others."""
COLUMNS = 12


class _Pictures(Study):
    """A study of pictures alone."""

    def cells(self, scale: Scale) -> list[Cell]:
        return []

    def examined(self, scale: Scale) -> list[Training]:
        return [Training(model, scale.seeds[0]) for model in (deep_dit(scale), FPDM)]

    def page(self, scale: Scale, found: Measurements) -> Page:
        return Page([], [])


class Figure1(_Pictures):
    """DiT and FPDM from the same noise, with classifier-free guidance (paper Fig. 1)."""

    name = "figure1"
    title = "Figure 1: the same noise, classes and budget"

    def sheets(self, bench: Bench) -> dict[str, Sheet]:
        rows = []
        for model, iterations in ((deep_dit(bench.scale), 0), (FPDM, 8)):
            plan = Plan(BUDGET, iterations, sampler=SAMPLER, guidance=4.0)
            rows.append(Row(_caption(model, plan, bench), _samples(_run(bench, model), plan, 10)))
        return {"figure1": Sheet(f"{BUDGET} block passes, {SAMPLER.upper()}, guidance 4", rows)}


class Figure5(_Pictures):
    """One budget, spent on many iterations at few timesteps or few at many, from the same noise (paper Fig. 5)."""

    name = "figure5"
    title = "Figure 5: iterations traded for timesteps, seen"

    def sheets(self, bench: Bench) -> dict[str, Sheet]:
        dit = deep_dit(bench.scale)
        plan = Plan(BUDGET, sampler=SAMPLER)
        rows = [Row(_caption(dit, plan, bench), _samples(_run(bench, dit), plan, 10))]
        for iterations in (1, 2, 4, 6, 8, 12, 20, 26, 68):
            plan = Plan(BUDGET, iterations, sampler=SAMPLER)
            rows.append(Row(_caption(FPDM, plan, bench), _samples(_run(bench, FPDM), plan, 10)))
        return {"figure5": Sheet(f"{BUDGET} block passes, {SAMPLER.upper()}", rows)}


class Samples(_Pictures):
    """Uncurated samples (paper Figs. 8 to 12)."""

    name = "samples"
    title = "Samples, not curated"

    def sheets(self, bench: Bench) -> dict[str, Sheet]:
        found = {}
        for name, model, iterations in (("samples-dit", deep_dit(bench.scale), 0), ("samples-fpdm", FPDM, 8)):
            plan = Plan(BUDGET, iterations, sampler=SAMPLER)
            images = _samples(_run(bench, model), plan, 48).split(COLUMNS)  # 4 of (12, C, H, W)
            caption = _caption(model, plan, bench)
            rows = [Row(caption if not i else "", part) for i, part in enumerate(images)]
            found[name] = Sheet(f"Images 0 to 47 of seed {SEED}, {BUDGET} block passes, {SAMPLER.upper()}", rows)
        return found


class Figure3(Study):
    """Block passes that DiT and FPDM spend on each step of the same budget (paper Fig. 3)."""

    name = "figure3"
    title = "Figure 3: block passes by step"
    budget = 140

    def cells(self, scale: Scale) -> list[Cell]:
        return []

    def examine(self, bench: Bench) -> dict[str, Any]:
        dit, fpdm = (bench.recipe(Training(m, 0)).model for m in (deep_dit(bench.scale), FPDM))
        spent: dict[str, list[int]] = {}
        for name, shape, iterations, allocations in (
            (f"DiT-{bench.scale.depth}", dit, None, ("constant",)),
            ("FPDM", fpdm, 5, ("constant", "increasing", "decreasing")),
        ):
            budget = Budget.of(self.budget, model_cost(shape))
            steps = budget.steps(iterations)
            for allocation in allocations:
                table = ALLOCATIONS[allocation].table(budget, steps)
                spent[name if iterations is None else f"{name}, {allocation}"] = [budget.cost([n]) for n in table]
        return spent

    def page(self, scale: Scale, found: Measurements) -> Page:
        spent: dict[str, list[int]] = dict(found.findings)
        names = [*spent]
        curves = [Curve(name, [(k + 0.5) / len(line) for k in range(len(line))], line) for name, line in spent.items()]
        panel = Panel("share of the steps done, the noisiest first", curves, linear=True)
        rows = [[name, str(len(line)), ", ".join(map(str, line)), str(sum(line))] for name, line in spent.items()]
        table = Table(
            f"Block passes of each step at a budget of {self.budget}, the noisiest step first",
            ["model", "steps", "block passes", "total"],
            rows,
        )
        plots = {"figure3": Curves([panel], names, names, "block passes of a step")} if curves else {}
        return Page([table], [], plots)


def _run(bench: Bench, model: Model) -> Run:
    return bench.run(Training(model, bench.scale.seeds[0]))


def _samples(run: Run, plan: Plan, count: int) -> Tensor:
    """Draw images of the classes in turn, (count, C, H, W) uint8."""
    classes = run.model.shape.num_classes
    labels = [i % classes if classes else 0 for i in range(count)]
    return draw(run, plan, labels, seed=SEED, batch_size=count)[0]


def _caption(model: Model, plan: Plan, bench: Bench) -> str:
    sampler = _run(bench, model).sampler(plan, seed=SEED)
    steps = len(sampler.timesteps)
    return f"{model.name}\n{steps} steps" + (f", {plan.iterations} iterations" if plan.iterations else "")
