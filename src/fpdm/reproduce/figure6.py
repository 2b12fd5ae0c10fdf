"""Figure 6: what it brings to start each solve from the last step's solution."""

from __future__ import annotations

from typing import Any

from fpdm.compare.diagnostics import residuals
from fpdm.drawing.plots import Curve, Curves, Panel
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.models import FPDM, Training
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, curve_of, texts, verdict
from fpdm.sampling.plan import Plan
from fpdm.sampling.timesteps import trailing

BUDGET = 280
ITERATIONS = (1, 2, 3, 5, 8, 12)
TIMESTEPS = 9


class Figure6(Study):
    """Reuse of solutions (paper Fig. 6)."""

    name = "figure6"
    title = "Figure 6: reuse of the last step's solution"

    def cells(self, scale: Scale) -> list[Cell]:
        training = Training(FPDM, scale.seeds[0])
        return [
            Cell(training, Plan(BUDGET, iterations, sampler="ddpm", reuse=reuse), scale.fewer_images)
            for reuse in (True, False)
            for iterations in ITERATIONS
        ]

    def examined(self, scale: Scale) -> list[Training]:
        return [Training(FPDM, scale.seeds[0])]

    def examine(self, bench: Bench) -> dict[str, Any]:
        run = bench.run(Training(FPDM, bench.scale.seeds[0]))
        timesteps = trailing(run.recipe.schedule, TIMESTEPS)
        rows = residuals(run, bench.real().held_out.splits.test, timesteps)
        return {"timesteps": [*timesteps], "residuals": [[*row] for row in rows]}

    def page(self, scale: Scale, found: Measurements) -> Page:
        lines = {
            name: [found.distance(FPDM, reuse=reuse, iterations=i) for i in ITERATIONS]
            for name, reuse in (("with reuse", True), ("without", False))
        }
        table = Table(
            f"Fréchet distance at {BUDGET} block passes with DDPM",
            ["", *(f"{i} iterations" for i in ITERATIONS)],
            [[name, *texts(line)] for name, line in lines.items()],
        )
        curves = [curve for name, line in lines.items() if (curve := curve_of(name, ITERATIONS, line))]
        names, plots = [*lines], {}
        if curves:
            panel = Panel("iterations per timestep", curves, ITERATIONS)
            plots["figure6a"] = Curves([panel], names, names, "Fréchet distance")
        if found.findings:
            steps = [f"t = {t}" for t in found.findings["timesteps"]]
            shown = [
                Curve(step, [*range(1, len(row) + 1)], row)
                for step, row in zip(steps, found.findings["residuals"], strict=True)
            ]
            panel = Panel("iteration", shown, title="from a cold start")
            plots["figure6b"] = Curves([panel], steps, steps, "relative change", logarithmic=True)
        return Page([table], [self._claim(lines)], plots)

    def _claim(self, lines: dict[str, list]) -> Claim:
        text, paper = "reuse helps much at 3 iterations and fewer, and not at 12", "Fig. 6a"
        if not all(all(line) for line in lines.values()):
            return Claim(text, paper, "–", "not measured")
        gains = {i: without.mean / reused.mean for i, reused, without in zip(ITERATIONS, *lines.values(), strict=True)}
        ours = "without over with: " + ", ".join(f"{gain:.2f} at {i}" for i, gain in gains.items())
        helps = min(gains[i] for i in (1, 2, 3)) > 1.05
        return Claim(text, paper, ours, verdict(holds=helps and abs(gains[12] - 1) < 0.05, in_part=gains[3] > 1.05))
