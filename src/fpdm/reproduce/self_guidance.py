"""Self-guidance: every model without and with it, at equal budgets that include its cost."""

from __future__ import annotations

from collections.abc import Sequence

from fpdm.compare.results import Result
from fpdm.drawing.plots import Curves, Panel
from fpdm.reproduce.bench import WEIGHTS, Cell
from fpdm.reproduce.evaluator import SECOND
from fpdm.reproduce.models import EVERYWHERE, FPDM, Model, Training, deep_dit, dit
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
    floor_label,
    texts,
    verdict,
)
from fpdm.sampling.plan import Plan

BUDGETS = (28, 56, 140, 280, 560)
BUDGET, ITERATIONS = 140, 3  # of the curves over the weight
CURVE = (0.0, *WEIGHTS, 3.0)
CLASS_GUIDANCE = 1.5
TARGET = 0.8  # of the distance without


class SelfGuidance(Study):
    """Not in the paper: guidance by a weaker answer of the same network (docs/method.md)."""

    name = "self-guidance"
    title = "Self-guidance: a model guided by its own weaker answer"

    def cells(self, scale: Scale) -> list[Cell]:
        def fixed(model: Model, weight: float, guidance: float = 1.0) -> Cell:
            iterations = ITERATIONS if model in _FIXED_POINTS else 0
            plan = Plan(BUDGET, iterations, self_guidance=weight, guidance=guidance)
            return Cell(Training(model, scale.seeds[0]), plan, scale.fewer_images)

        models = _models(scale)
        curves = [fixed(model, weight) for model in (*_FIXED_POINTS, dit(4), deep_dit(scale)) for weight in CURVE]
        classes = [fixed(model, weight, CLASS_GUIDANCE) for model in _FIXED_POINTS for weight in (0.0, 1.0)]
        guided = [
            Cell(Training(model, scale.seeds[0]), Plan(b, self_guidance=1.0), scale.fewer_images, chosen=True)
            for model in models
            for b in BUDGETS
        ]
        return [*chosen_cells(models, scale, BUDGETS), *guided, *curves, *classes]

    def page(self, scale: Scale, found: Measurements) -> Page:
        known = _Known(found)
        models = _models(scale)
        rows, second = [], []
        for model in models:
            for guided in (False, True):
                line = [known.chosen(model, budget, guided=guided) for budget in BUDGETS]
                name = _name(model, guided=guided)
                rows.append([name, *texts([Distances((one,)) if one else None for one in line])])
                second.append([name, *(_second(one) for one in line)])
        columns = ["model", *(f"{budget} passes" for budget in BUDGETS)]
        tables = [
            Table("Fréchet distance with each model's best plan for DDIM, the cost within the budget", columns, rows),
            Table("The same images in features of a network that was trained to reconstruct", columns, second),
            self._plans(models, known),
        ]
        curves = {name: known.curve(model) for name, model in self._drawn(scale).items()}
        classes = [
            [model.name, f"{weight:g}", *(known.fixed_text(model, weight, g) for g in (1.0, CLASS_GUIDANCE))]
            for model in _FIXED_POINTS
            for weight in (0.0, 1.0)
        ]
        heads = ["model", "self-guidance", "class guidance 1", f"class guidance {CLASS_GUIDANCE:g}"]
        tables.append(
            Table(f"Beside class guidance, at {BUDGET} block passes of {ITERATIONS} iterations", heads, classes)
        )
        plots = {}
        if drawn := [curve for name, line in curves.items() if (curve := curve_of(name, CURVE, line))]:
            names, panel = [*curves], Panel(f"weight of self-guidance, at {BUDGET} passes", drawn, linear=True)
            plots["self-guidance-weights"] = Curves([panel], names, names, "Fréchet distance")
        if panels := known.panels(models):
            plots["self-guidance"] = Curves(
                panels, [m.name for m in models], [m.name for m in models], "Fréchet distance", floor_label(found)
            )
        claims = [self._gain(known, model) for model in _FIXED_POINTS]
        claims += [self._envelope(scale, known, guided=guided) for guided in (False, True)]
        return Page(tables, claims, plots)

    def _drawn(self, scale: Scale) -> dict[str, Model]:
        return {model.name: model for model in (*_FIXED_POINTS, dit(4), deep_dit(scale))}

    def _plans(self, models: Sequence[Model], known: _Known) -> Table:
        rows = []
        for model in models:
            plans = [known.chosen(model, budget, guided=True) for budget in BUDGETS]
            rows.append([model.name, *(_plan(one) for one in plans)])
        return Table(
            "The weight and the depth that were chosen, and steps x iterations",
            ["model", *(f"{budget} passes" for budget in BUDGETS)],
            rows,
        )

    def _gain(self, known: _Known, model: Model) -> Claim:
        text = f"{model.name}: at {BUDGET} block passes the distance is at most {TARGET} times that without"
        without, guided = (known.chosen(model, BUDGET, guided=guided) for guided in (False, True))
        if without is None or guided is None:
            return Claim(text, _UNPUBLISHED, "–", "not measured")
        share = guided.distance / without.distance
        ours = f"{share:.2f} times: {Distances((guided,)).to_text()}, without {Distances((without,)).to_text()}"
        return Claim(text, _UNPUBLISHED, ours, verdict(holds=share <= TARGET, in_part=share < 1))

    def _envelope(self, scale: Scale, known: _Known, *, guided: bool) -> Claim:
        with_it = "with" if guided else "without"
        text = f"{with_it} self-guidance, FPDM is at or below the best plain DiT at every budget"
        dits = [model for model in _models(scale) if model not in _FIXED_POINTS]
        ratios = []
        for budget in BUDGETS:
            best = [
                [one.distance for model in group if (one := known.chosen(model, budget, guided=guided))]
                for group in (_FIXED_POINTS, dits)
            ]
            if not all(len(ours) == len(group) for ours, group in zip(best, (_FIXED_POINTS, dits), strict=True)):
                return Claim(text, _UNPUBLISHED, "–", "not measured")
            ratios.append(min(best[0]) / min(best[1]))
        ours = ", ".join(f"{r:.2f} times at {budget}" for r, budget in zip(ratios, BUDGETS, strict=True))
        return Claim(text, _UNPUBLISHED, ours, verdict(holds=max(ratios) <= 1, in_part=min(ratios) <= 1))


_FIXED_POINTS = (FPDM, EVERYWHERE)
_UNPUBLISHED = "not in the paper"


def _models(scale: Scale) -> list[Model]:
    return [*_FIXED_POINTS, *(dit(blocks) for blocks in (3, 4, 7, 14)), deep_dit(scale)]


class _Known:
    """The measurements of the study, found by what they are."""

    def __init__(self, found: Measurements) -> None:
        self._found = found

    def chosen(self, model: Model, budget: int, *, guided: bool) -> Result | None:
        return next(
            (
                one.result
                for one in self._found.cells
                if one.chosen
                and (one.model, one.result.budget) == (model.name, budget)
                and bool(one.result.self_guidance) == guided
            ),
            None,
        )

    def fixed(self, model: Model, weight: float, guidance: float = 1.0) -> Result | None:
        return next(
            (
                one.result
                for one in self._found.cells
                if not one.chosen
                and (one.model, one.result.self_guidance, one.result.guidance) == (model.name, weight, guidance)
            ),
            None,
        )

    def fixed_text(self, model: Model, weight: float, guidance: float) -> str:
        return texts([Distances((one,)) if (one := self.fixed(model, weight, guidance)) else None])[0]

    def curve(self, model: Model) -> list[Distances | None]:
        line = [self.fixed(model, weight) for weight in CURVE]
        return [Distances((one,)) if one else None for one in line]

    def panels(self, models: Sequence[Model]) -> list[Panel]:
        drawn = []
        for guided, title in ((False, "without"), (True, "with self-guidance")):
            curves = []
            for model in models:
                line = [self.chosen(model, budget, guided=guided) for budget in BUDGETS]
                if curve := curve_of(model.name, BUDGETS, [Distances((one,)) if one else None for one in line]):
                    curves.append(curve)
            if curves:
                drawn.append(Panel("block passes per image", curves, BUDGETS, title))
        return drawn


def _name(model: Model, *, guided: bool) -> str:
    return f"{model.name}, guided" if guided else model.name


def _second(result: Result | None) -> str:
    if result is None or SECOND not in result.measures:
        return "–"
    low, high = (result.measures[f"{SECOND}_{end}"] for end in ("low", "high"))
    return f"{result.measures[SECOND]:.3g} ({low:.3g} to {high:.3g})"


def _plan(result: Result | None) -> str:
    if result is None:
        return "–"
    return f"{result.self_guidance:g}, depth {result.weak_depth}; {result.steps} x {result.iterations}"
