"""Table 5: iterations divided evenly, increasingly or decreasingly over the timesteps, or where they are needed."""

from __future__ import annotations

from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import FPDM, Training
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, texts, verdict
from fpdm.sampling.plan import Plan

BUDGET = 280
SAMPLER = "ddpm"
ITERATIONS = (3, 5, 6, 8, 12, 26)
PAPER = {
    "constant": (48.0, 45.8, 46.6, 47.3, 48.5, 62.5),
    "decreasing": (48.0, 46.3, 47.3, 48.3, 49.1, 63.2),
    "increasing": (46.7, 44.8, 45.9, 45.6, 48.0, 61.7),
}


class Table5(Study):
    """Allocation of the iterations to the timesteps (paper Table 5 and Sec. 3.3)."""

    name = "table5"
    title = "Table 5: allocation of the iterations"

    def cells(self, scale: Scale) -> list[Cell]:
        training = Training(FPDM, scale.seeds[0])
        return [
            Cell(training, Plan(BUDGET, i, sampler=SAMPLER, allocation=allocation), scale.fewer_images)  # type: ignore[arg-type]
            for allocation in (*PAPER, "adaptive")
            for i in ITERATIONS
        ]

    def page(self, scale: Scale, found: Measurements) -> Page:
        known = {
            name: [found.distance(FPDM, allocation=name, iterations=i) for i in ITERATIONS]
            for name in (*PAPER, "adaptive")
        }
        rows = [[name, *texts(line)] for name, line in known.items()]
        rows += [[f"paper, {name} (FID)", *map(str, line)] for name, line in PAPER.items()]
        table = Table(
            f"Fréchet distance at {BUDGET} block passes with {SAMPLER.upper()}; "
            "increasing: most iterations at the cleanest timesteps",
            ["allocation", *(f"{i} iterations" for i in ITERATIONS)],
            rows,
        )
        text, paper = "most iterations at the cleanest timesteps is the best heuristic", "at each of 6 numbers"
        if not all(all(line) for line in known.values()):
            return Page([table], [Claim(text, paper, "–", "not measured")])
        best = [min(PAPER, key=lambda name: known[name][k].mean) for k in range(len(ITERATIONS))]  # type: ignore[union-attr]
        wins = best.count("increasing")
        claim = Claim(
            text,
            paper,
            f"at {wins} of {len(best)}; decreasing at {best.count('decreasing')}",
            verdict(holds=wins == len(best), in_part=wins > len(best) // 2),
        )
        return Page([table], [claim])
