"""Figure 4: a fixed budget, spent on many iterations at few timesteps or few iterations at many."""

from __future__ import annotations

from fpdm.drawing.numbers import MISSING
from fpdm.drawing.plots import Curves, Panel
from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import EVERYWHERE, FPDM, Model, Training, deep_dit
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, curve_of, texts, verdict
from fpdm.sampling.plan import Plan

BUDGET = 280
ITERATIONS = (1, 2, 3, 4, 5, 6, 8, 12, 20, 26, 68)
SAMPLER = "ddpm"


class Figure4(Study):
    """Smoothing of compute across timesteps (paper Fig. 4 and Sec. 3.3)."""

    name = "figure4"
    title = "Figure 4: iterations traded for timesteps at a fixed budget"

    def cells(self, scale: Scale) -> list[Cell]:
        seed = scale.seeds[0]
        swept = [
            Cell(Training(model, seed), Plan(BUDGET, iterations, sampler=SAMPLER), scale.fewer_images)
            for model in (FPDM, EVERYWHERE)
            for iterations in ITERATIONS
        ]
        return [*swept, Cell(Training(deep_dit(scale), seed), Plan(BUDGET, sampler=SAMPLER), scale.fewer_images)]

    def page(self, scale: Scale, found: Measurements) -> Page:
        models = [FPDM, EVERYWHERE]
        swept = {m.name: [found.distance(m, iterations=i) for i in ITERATIONS] for m in models}
        rows = [
            [str(iterations), _steps(found, iterations), *texts([swept[model.name][place] for model in models])]
            for place, iterations in enumerate(ITERATIONS)
        ]
        curves = [curve for name, line in swept.items() if (curve := curve_of(name, ITERATIONS, line))]
        baseline = found.distance(deep_dit(scale))
        floors = [baseline.mean] if baseline else []
        panel = Panel("fixed-point iterations per timestep", curves, (1, 2, 3, 5, 8, 12, 26, 68), "", floors)
        names = [model.name for model in models]
        label = f"DiT-{scale.depth} at the same budget"
        plots = {"figure4": Curves([panel], names, names, "Fréchet distance", label)} if curves else {}
        columns = ["iterations", "timesteps", *names]
        table = Table(f"Fréchet distance at {BUDGET} block passes with {SAMPLER.upper()}", columns, rows)
        notes = [f"{label}: {baseline.to_text()}."] if baseline else []
        return Page([table], [self._claim(found, model) for model in models], plots, notes)

    def _claim(self, found: Measurements, model: Model) -> Claim:
        text = f"{model.name}: the best number of iterations lies inside, and both ends are worse"
        points = {one.iterations: one for one in found.where(model)}
        if len(points) < len(ITERATIONS):
            return Claim(text, "4 to 8 of 1 to 68 iterations", "–", "not measured")
        best = min(points.values(), key=lambda one: one.distance)
        ends = points[ITERATIONS[0]], points[ITERATIONS[-1]]
        inside = best.iterations not in (ITERATIONS[0], ITERATIONS[-1])
        ours = f"{best.iterations} iterations, {best.distance:.3g}; ends {ends[0].distance:.3g}, {ends[1].distance:.3g}"
        clear = all(best.distance_high < end.distance_low for end in ends)
        return Claim(text, "4 to 8 of 1 to 68 iterations", ours, verdict(holds=inside and clear, in_part=inside))


def _steps(found: Measurements, iterations: int) -> str:
    return next((str(one.steps) for one in found.where(FPDM, iterations=iterations)), MISSING)
