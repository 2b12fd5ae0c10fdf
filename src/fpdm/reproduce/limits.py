"""The paper's own limit: the budget from which on DiT is better."""

from __future__ import annotations

from fpdm.drawing.plots import Curves
from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import EVERYWHERE, FPDM, deep_dit
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import (
    Claim,
    Measurements,
    Page,
    Study,
    Table,
    chosen_cells,
    floor_label,
    panels,
    texts,
    verdict,
)

BUDGETS = (140, 280, 560, 1120, 2240)


class Limits(Study):
    """Large budgets (paper Sec. 4.2 and 6)."""

    name = "limits"
    title = "Limits: from which budget on DiT is better"

    def cells(self, scale: Scale) -> list[Cell]:
        return chosen_cells((deep_dit(scale), FPDM, EVERYWHERE), scale, BUDGETS)

    def page(self, scale: Scale, found: Measurements) -> Page:
        models = (deep_dit(scale), FPDM, EVERYWHERE)
        lines = {m.name: [found.distance(m, budget=b) for b in BUDGETS] for m in models}
        table = Table(
            "Fréchet distance with each model's best plan for DDIM",
            ["model", *(f"{budget} passes" for budget in BUDGETS)],
            [[name, *texts(line)] for name, line in lines.items()],
        )
        names, drawn = [*lines], panels(found, models, BUDGETS)
        plots = {"limits": Curves(drawn, names, names, "Fréchet distance", floor_label(found))} if drawn else {}
        text, paper = "DiT is better from about 560 block passes on", "560 with DDIM, above 560 with DDPM"
        dit, fpdm = lines[models[0].name], lines[FPDM.name]
        if not (all(dit) and all(fpdm)):
            return Page([table], [Claim(text, paper, "–", "not measured")], plots)
        better = [b for b, d, f in zip(BUDGETS, dit, fpdm, strict=True) if d.mean < f.mean]  # type: ignore[union-attr]
        ours = f"DiT is better at {', '.join(map(str, better)) or 'no budget'} of {', '.join(map(str, BUDGETS))}"
        claim = Claim(
            text, paper, ours, verdict(holds=better == [b for b in BUDGETS if b >= 560], in_part=bool(better))
        )
        return Page([table], [claim], plots)
