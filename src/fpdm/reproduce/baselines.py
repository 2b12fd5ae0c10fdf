"""The map of baselines: which model is best at which budget and size, shallow DiTs and shared blocks included."""

from __future__ import annotations

from fpdm.drawing.plots import Curves
from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import EVERYWHERE, FPDM, Model, Training, deep_dit, dit, shared
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, floor_label, lowest, panels, texts, verdict
from fpdm.sampling.plan import Plan


class Baselines(Study):
    """Not in the paper: what its comparison with one deep DiT leaves out."""

    name = "baselines"
    title = "Baselines: DiTs of every depth, and one block at fixed depth"

    def cells(self, scale: Scale) -> list[Cell]:
        return [
            Cell(Training(model, seed), Plan(budget), scale.fewer_images, chosen=True)
            for seed in scale.seeds
            for model in _models(scale)
            for budget in scale.budgets
        ]

    def page(self, scale: Scale, found: Measurements) -> Page:
        models = _models(scale)
        distances = {m.name: [found.distance(m, budget=b) for b in scale.budgets] for m in models}
        rows = [[name, _parameters(found, name), *texts(line)] for name, line in distances.items()]
        names, drawn = [*distances], panels(found, models, scale.budgets)
        plots = {"baselines": Curves(drawn, names, names, "Fréchet distance", floor_label(found))} if drawn else {}
        columns = ["model", "parameters", *(f"{budget} passes" for budget in scale.budgets)]
        table = Table("Fréchet distance with each model's best plan for DDIM", columns, rows)
        return Page([table], [self._claim(scale, found, budget) for budget in scale.budgets], plots)

    def _claim(self, scale: Scale, found: Measurements, budget: int) -> Claim:
        text = f"FPDM is the best of all models trained with this compute at {budget} block passes"
        known = {m.name: d for m in _models(scale) if (d := found.distance(m, budget=budget))}
        if len(known) < len(_models(scale)):
            return Claim(text, "compared with one DiT of 28 blocks only", "–", "not measured")
        best = lowest(known)
        ours = f"{best} {known[best].to_text()}, FPDM {known[FPDM.name].to_text()}"
        return Claim(
            text,
            "compared with one DiT of 28 blocks only",
            ours,
            verdict(holds=best == FPDM.name, in_part="FPDM" in best),
        )


def _models(scale: Scale) -> list[Model]:
    return [FPDM, EVERYWHERE, *(dit(blocks) for blocks in (3, 4, 7, 14)), deep_dit(scale), shared(7)]


def _parameters(found: Measurements, name: str) -> str:
    return next((f"{one.parameters:,}" for one in found.where(name)), "–")
