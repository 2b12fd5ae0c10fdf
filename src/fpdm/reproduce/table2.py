"""Table 2: FPDM and DiT on several data sets at one budget."""

from __future__ import annotations

from dataclasses import replace

from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import FPDM, Model, deep_dit
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, apart, chosen_cells, texts, verdict

BUDGET = 280
PAPER = {"CelebA-HQ": (65.2, 11.1), "LSUN-Church": (65.6, 22.7), "FFHQ": (58.1, 18.2), "ImageNet": (80.9, 43.3)}
"""The paper's FID of DiT and FPDM."""


class Table2(Study):
    """Other data sets (paper Table 2)."""

    name = "table2"
    title = "Table 2: four data sets"

    def cells(self, scale: Scale) -> list[Cell]:
        return chosen_cells([model for pair in _models(scale).values() for model in pair], scale, [BUDGET])

    def page(self, scale: Scale, found: Measurements) -> Page:
        rows, claims = [], []
        for name, pair in _models(scale).items():
            dit, fpdm = (found.distance(model, budget=BUDGET) for model in pair)
            rows.append([name, *texts([dit, fpdm])])
            text, paper = f"FPDM is better on {name}", "better on each of four data sets"
            if dit is None or fpdm is None:
                claims.append(Claim(text, paper, "–", "not measured"))
                continue
            ours = f"DiT {dit.to_text()}, FPDM {fpdm.to_text()}"
            claims.append(Claim(text, paper, ours, verdict(holds=apart(fpdm, dit), in_part=fpdm.mean < dit.mean)))
        rows += [[f"paper, {name} (FID)", *map(str, line)] for name, line in PAPER.items()]
        title = (
            f"Fréchet distance at {BUDGET} block passes with each model's best plan for DDIM, compute of an ablation"
        )
        return Page([Table(title, ["data", f"DiT-{scale.depth}", "FPDM"], rows)], claims)


def _models(scale: Scale) -> dict[str, tuple[Model, Model]]:
    """The two models of each data set. Their names differ, because runs are kept by name."""
    kinds = {
        f"{scale.data}": {},
        f"{scale.data} without classes": {"conditional": False},
        "digits": {"data": "digits"},
        "a folder of colour pictures": {"data": "pictures", "conditional": False},
    }
    if scale.data == "digits":
        kinds.pop("digits")
        kinds = {"digits": {}, **kinds}
    dit, fpdm = deep_dit(scale), FPDM
    return {
        name: (
            replace(dit, name=f"{dit.name} on {name}", ablation=True, **changes),
            replace(fpdm, name=f"{fpdm.name} on {name}", ablation=True, **changes),
        )
        for name, changes in kinds.items()
    }
