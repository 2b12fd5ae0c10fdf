"""Figure 7: the number of pre and post blocks."""

from __future__ import annotations

from collections.abc import Mapping

from fpdm.drawing.plots import Curves, Panel
from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import Model, stochastic
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
    texts,
    verdict,
)

BUDGETS = (140, 280, 560, 1120)
MODELS = {
    f"{n} pre and post": stochastic(3)  # what the recipe has, and Table 3 too
    if n == 1
    else Model(f"{n} pre and post", network={"pre_blocks": n, "post_blocks": n}, ablation=True)
    for n in (0, 1, 2, 4)
}


class Figure7(Study):
    """Explicit layers before and after the fixed point (paper Fig. 7)."""

    name = "figure7"
    title = "Figure 7: blocks before and after the fixed point"

    def cells(self, scale: Scale) -> list[Cell]:
        return chosen_cells(MODELS.values(), scale, BUDGETS)

    def page(self, scale: Scale, found: Measurements) -> Page:
        lines = {name: [found.distance(m, budget=b) for b in BUDGETS] for name, m in MODELS.items()}
        table = Table(
            "Fréchet distance with each model's best plan for DDIM",
            ["model", *(f"{budget} passes" for budget in BUDGETS)],
            [[name, *texts(line)] for name, line in lines.items()],
        )
        curves = [curve for name, line in lines.items() if (curve := curve_of(name, BUDGETS, line))]
        names, panel = [*lines], Panel("block passes per image", curves, BUDGETS)
        plots = {"figure7": Curves([panel], names, names, "Fréchet distance")} if curves else {}
        return Page([table], [self._claim(lines)], plots)

    def _claim(self, lines: Mapping[str, list[Distances | None]]) -> Claim:
        text, paper = "at least one pre and post block is always better than none", "at every budget (Fig. 7)"
        none, *others = lines.values()
        if not all(all(line) for line in lines.values()):
            return Claim(text, paper, "–", "not measured")
        best = [min(one.mean for one in column if one) for column in zip(*others, strict=True)]
        wins = [one < without.mean for one, without in zip(best, none, strict=True) if without]
        ours = f"at {sum(wins)} of {len(wins)} budgets"
        return Claim(text, paper, ours, verdict(holds=all(wins), in_part=any(wins)))
