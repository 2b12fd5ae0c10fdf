"""Solvers of the fixed point when sampling: plain iteration and Anderson acceleration."""

from __future__ import annotations

from fpdm.drawing.plots import Curves, Panel
from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import FPDM, Training
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, curve_of, texts, verdict
from fpdm.sampling.plan import Plan

BUDGET = 280
ITERATIONS = (2, 3, 5, 8, 12)
SOLVERS = ("picard", "anderson")


class Solvers(Study):
    """Not in the paper, which iterates plainly: whether acceleration pays."""

    name = "solvers"
    title = "Solvers of the fixed point"

    def cells(self, scale: Scale) -> list[Cell]:
        training = Training(FPDM, scale.seeds[0])
        return [
            Cell(training, Plan(BUDGET, i, reuse=reuse, solver=solver), scale.fewer_images)  # type: ignore[arg-type]
            for solver in SOLVERS
            for reuse in (True, False)
            for i in ITERATIONS
        ]

    def page(self, scale: Scale, found: Measurements) -> Page:
        lines = {
            f"{solver}, {'with' if reuse else 'without'} reuse": [
                found.distance(FPDM, solver=solver, reuse=reuse, iterations=i) for i in ITERATIONS
            ]
            for solver in SOLVERS
            for reuse in (True, False)
        }
        table = Table(
            f"Fréchet distance at {BUDGET} block passes with DDIM",
            ["solver", *(f"{i} iterations" for i in ITERATIONS)],
            [[name, *texts(line)] for name, line in lines.items()],
        )
        curves = [curve for name, line in lines.items() if (curve := curve_of(name, ITERATIONS, line))]
        names = [*lines]
        plots = {}
        if curves:
            plots["solvers"] = Curves(
                [Panel("iterations per timestep", curves, ITERATIONS)], names, names, "Fréchet distance"
            )
        text, paper = "plain iteration is enough", "plain iteration, no other tried"
        best = {name: min(d.mean for d in line if d) for name, line in lines.items() if any(line)}
        if len(best) < len(lines) or not all(map(all, lines.values())):
            return Page([table], [Claim(text, paper, "–", "not measured")], plots)
        plain, fast = (min(v for name, v in best.items() if name.startswith(solver)) for solver in SOLVERS)
        ours = f"best of plain iteration {plain:.3g}, of Anderson {fast:.3g}"
        return Page(
            [table], [Claim(text, paper, ours, verdict(holds=plain <= fast, in_part=plain <= 1.05 * fast))], plots
        )
