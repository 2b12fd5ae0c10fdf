"""Table 3: the numbers of iterations in training."""

from __future__ import annotations

from collections.abc import Mapping

from fpdm.drawing.plots import Curves, Panel
from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import stochastic
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import (
    Claim,
    Distances,
    Measurements,
    Page,
    Study,
    Table,
    chosen_cells,
    curve_of,
    lowest,
    texts,
    verdict,
)

BUDGET = 280
PAPER = {3: 43.0, 6: 43.2, 12: 61.5, 24: 567.6}
MODELS = {n: stochastic(n) for n in PAPER}


class Table3(Study):
    """Iterations in training, M = N (paper Table 3)."""

    name = "table3"
    title = "Table 3: iterations in training"

    def cells(self, scale: Scale) -> list[Cell]:
        return chosen_cells(MODELS.values(), scale, [BUDGET])

    def page(self, scale: Scale, found: Measurements) -> Page:
        distances = {n: found.distance(model) for n, model in MODELS.items()}
        table = Table(
            f"Fréchet distance at {BUDGET} block passes, equal training compute",
            ["M = N", *map(str, PAPER)],
            [["paper (FID)", *map(str, PAPER.values())], ["ours", *texts([*distances.values()])]],
        )
        curve = curve_of("FPDM", [*PAPER], [*distances.values()])
        panel = Panel("M = N", [curve] if curve else [], [*PAPER])
        plots = {"table3": Curves([panel], ["FPDM"], ["FPDM"], "Fréchet distance")} if curve else {}
        return Page([table], [self._claim(distances)], plots)

    def _claim(self, distances: Mapping[int, Distances | None]) -> Claim:
        text, paper = "the best M = N are 3 to 6, and 24 is worst", "43.0, 43.2, 61.5, 567.6"
        known = {str(n): d for n, d in distances.items() if d}
        if len(known) < len(distances):
            return Claim(text, paper, "–", "not measured")
        ours = ", ".join(f"{d.mean:.3g}" for d in known.values())
        best = lowest(known)
        worst = max(known, key=lambda n: known[n].mean)
        return Claim(text, paper, ours, verdict(holds=best in ("3", "6") and worst == "24", in_part=best in ("3", "6")))
