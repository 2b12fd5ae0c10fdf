"""Table 1: FPDM and DiT at equal budgets, by two samplers; parameters and training memory."""

from __future__ import annotations

from typing import Any

from fpdm.drawing.plots import Curves
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.models import EVERYWHERE, FPDM, Training, deep_dit
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, apart, floor_label, panels, texts, verdict
from fpdm.sampling.plan import Plan
from fpdm.training.memory import training_memory

SAMPLERS = ("ddpm", "ddim")
PAPER = {
    "ddpm": {140: (148.0, 85.8), 280: (80.9, 43.3), 560: (37.9, 26.1)},
    "ddim": {140: (110.0, 33.9), 280: (35.2, 22.4), 560: (16.5, 19.6)},
}
"""The paper's FID of DiT and FPDM by sampler and budget."""


class Table1(Study):
    """Quality at equal block passes, parameters and training memory (paper Table 1)."""

    name = "table1"
    title = "Table 1: FPDM and DiT at equal block passes"

    def cells(self, scale: Scale) -> list[Cell]:
        return [
            Cell(Training(model, seed), Plan(budget, sampler=sampler), scale.images, chosen=True)
            for seed in scale.seeds
            for sampler in SAMPLERS
            for budget in scale.budgets
            for model in (deep_dit(scale), FPDM, EVERYWHERE)
        ]

    def examined(self, scale: Scale) -> list[Training]:
        return [Training(model, scale.seeds[0]) for model in (deep_dit(scale), FPDM, EVERYWHERE)]

    def examine(self, bench: Bench) -> dict[str, Any]:
        found = {}
        for training in self.examined(bench.scale):
            run = bench.run(training)
            config = run.recipe.train
            memory = training_memory(run.model, run.recipe.schedule, config.make_objective(), config.make_gradient())
            found[training.model.name] = {
                "parameters": run.model.cost().total_parameters,
                "saved_bytes": memory.mean,
                "saved_bytes_max": memory.largest,
                "steps": run.progress.step,
                "seconds": run.progress.seconds,
                "macs": run.progress.macs,
            }
        return found

    def page(self, scale: Scale, found: Measurements) -> Page:
        models = [deep_dit(scale), FPDM, EVERYWHERE]
        rows, claims, plots = [], [], {}
        names = [model.name for model in models]
        for sampler in SAMPLERS:
            for model in models:
                distances = [found.distance(model, budget=budget, sampler=sampler) for budget in scale.budgets]
                rows.append([model.name, sampler, *texts(distances)])
            if drawn := panels(found, models, scale.budgets, sampler=sampler, title=sampler.upper()):
                plots[f"table1-{sampler}"] = Curves(drawn, names, names, "Fréchet distance", floor_label(found))
            claims += [
                self._quality(scale, found, sampler, budget) for budget in scale.budgets if budget in PAPER[sampler]
            ]
        columns = ["model", "sampler", *(f"{budget} passes" for budget in scale.budgets)]
        tables = [Table("Fréchet distance to the test images, mean over training seeds and interval", columns, rows)]
        if found.findings:
            tables.append(self._sizes(found))
            claims += self._savings(scale, found)
        return Page(tables, claims, plots)

    def _quality(self, scale: Scale, found: Measurements, sampler: str, budget: int) -> Claim:
        theirs = PAPER[sampler][budget]
        better = "FPDM is better" if theirs[1] < theirs[0] else "DiT is better"
        text = f"{better} at {budget} block passes with {sampler.upper()}"
        paper = f"DiT {theirs[0]}, FPDM {theirs[1]} (FID)"
        dit, fpdm = (found.distance(m, budget=budget, sampler=sampler) for m in (deep_dit(scale), FPDM))
        if dit is None or fpdm is None:
            return Claim(text, paper, "–", "not measured")
        first, second = (fpdm, dit) if theirs[1] < theirs[0] else (dit, fpdm)
        ours = f"DiT {dit.to_text()}, FPDM {fpdm.to_text()}"
        return Claim(text, paper, ours, verdict(holds=apart(first, second), in_part=first.mean < second.mean))

    def _sizes(self, found: Measurements) -> Table:
        rows = [
            [
                name,
                f"{one['parameters']:,}",
                f"{one['saved_bytes'] / 1e3:,.0f} kB",
                f"{one['saved_bytes_max'] / 1e3:,.0f} kB",
                f"{one['steps']:,}",
                f"{one['macs']:.3g}",
                f"{one['seconds'] / 60:,.0f} min",
            ]
            for name, one in found.findings.items()
        ]
        columns = ["model", "parameters", "saved for backward, mean", "largest", "training steps", "MACs", "time"]
        return Table("Size, memory per image of a training step, and training", columns, rows)

    def _savings(self, scale: Scale, found: Measurements) -> list[Claim]:
        dit, fpdm = found.findings[deep_dit(scale).name], found.findings[FPDM.name]
        fewer = 1 - fpdm["parameters"] / dit["parameters"]
        bytes_ = fpdm["saved_bytes"] / dit["saved_bytes"]
        return [
            Claim("FPDM has far fewer parameters", "87 % fewer", f"{fewer:.0%} fewer", verdict(holds=fewer >= 0.85)),
            Claim(
                "FPDM's training needs less memory",
                "0.40 of DiT's",
                f"{bytes_:.2f} of DiT's saved tensors, mean over the draws",
                verdict(holds=bytes_ <= 0.41, in_part=bytes_ < 1),
            ),
        ]
