"""Self-guidance: every model without and with it, at equal budgets that include its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fpdm.drawing.numbers import MISSING
from fpdm.drawing.plots import Curves, Panel, Plot
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
    panels,
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
        curves = [fixed(model, weight) for model in _swept(scale) for weight in CURVE]
        classes = [fixed(model, weight, CLASS_GUIDANCE) for model in _FIXED_POINTS for weight in (0.0, 1.0)]
        guided = [
            Cell(Training(model, scale.seeds[0]), Plan(b, self_guidance=1.0), scale.fewer_images, chosen=True)
            for model in models
            for b in BUDGETS
            if _pays(model, scale, b)
        ]
        return [*chosen_cells(models, scale, BUDGETS), *guided, *curves, *classes]

    def page(self, scale: Scale, found: Measurements) -> Page:
        models, parts = _models(scale), [_chosen(found, guided=guided) for guided in (False, True)]
        rows = [
            [name, [part.distance(model, budget=budget) for budget in BUDGETS]]
            for model in models
            for name, part in zip((model.name, f"{model.name}, guided"), parts, strict=True)
        ]
        columns = ["model", *(f"{budget} passes" for budget in BUDGETS)]
        plans = [[model.name, *(_plan(parts[1].distance(model, budget=b)) for b in BUDGETS)] for model in models]
        tables = [
            Table(
                "Fréchet distance with each model's best plan for DDIM, the cost within the budget",
                columns,
                [[name, *texts(line)] for name, line in rows],
            ),
            Table(
                "The same images in features of a network that was trained to reconstruct",
                columns,
                [[name, *map(_second, line)] for name, line in rows],
            ),
            Table("The weight and the depth that were chosen, and steps x iterations", columns, plans),
            self._beside_classes(found),
        ]
        plots, names = self._curves(scale, found), [model.name for model in models]
        if drawn := [panel for part, title in zip(parts, TITLES, strict=True) for panel in _panel(part, models, title)]:
            plots["self-guidance"] = Curves(drawn, names, names, "Fréchet distance", floor_label(found))
        claims = [self._gain(parts, model) for model in _FIXED_POINTS]
        claims += [self._envelope(scale, *one) for one in zip(parts, TITLES, (False, True), strict=True)]
        return Page(tables, claims, plots)

    def _beside_classes(self, found: Measurements) -> Table:
        fixed = _fixed(found)
        rows = [
            [
                model.name,
                f"{weight:g}",
                *texts([fixed.distance(model, self_guidance=weight, guidance=g) for g in (1.0, CLASS_GUIDANCE)]),
            ]
            for model in _FIXED_POINTS
            for weight in (0.0, 1.0)
        ]
        title = f"Beside class guidance, at {BUDGET} block passes of {ITERATIONS} iterations"
        return Table(title, ["model", "self-guidance", "class guidance 1", f"class guidance {CLASS_GUIDANCE:g}"], rows)

    def _curves(self, scale: Scale, found: Measurements) -> dict[str, Plot]:
        fixed, names, drawn = _fixed(found), [], []
        for model in _swept(scale):
            line = [fixed.distance(model, self_guidance=weight, guidance=1.0) for weight in CURVE]
            names.append(model.name)
            if curve := curve_of(model.name, CURVE, line):
                drawn.append(curve)
        panel = Panel(f"weight of self-guidance, at {BUDGET} passes", drawn, linear=True)
        return {"self-guidance-weights": Curves([panel], names, names, "Fréchet distance")} if drawn else {}

    def _gain(self, parts: Sequence[Measurements], model: Model) -> Claim:
        text = f"{model.name}: at {BUDGET} block passes the distance is at most {TARGET} times that without"
        without, guided = (part.distance(model, budget=BUDGET) for part in parts)
        if without is None or guided is None:
            return Claim(text, _UNPUBLISHED, "–", "not measured")
        share = guided.mean / without.mean
        ours = f"{share:.2f} times: {guided.to_text()}, without {without.to_text()}"
        return Claim(text, _UNPUBLISHED, ours, verdict(holds=share <= TARGET, in_part=share < 1))

    def _envelope(self, scale: Scale, part: Measurements, title: str, guided: bool) -> Claim:
        text = f"{title}, FPDM is at or below the best plain DiT at every budget"
        dits = [model for model in _models(scale) if model not in _FIXED_POINTS]
        wanted = [(one, b) for one in _models(scale) for b in BUDGETS if not guided or _pays(one, scale, b)]
        known = {(one.name, b): found.mean for one, b in wanted if (found := part.distance(one, budget=b))}
        if len(known) < len(wanted):
            return Claim(text, _UNPUBLISHED, "–", "not measured")
        best = [
            [min(known[one.name, b] for one in group if (one.name, b) in known) for b in BUDGETS]
            for group in (_FIXED_POINTS, dits)
        ]
        ratios = [ours / theirs for ours, theirs in zip(*best, strict=True)]
        ours = ", ".join(f"{r:.2f} times at {b}" for r, b in zip(ratios, BUDGETS, strict=True))
        return Claim(text, _UNPUBLISHED, ours, verdict(holds=max(ratios) <= 1, in_part=min(ratios) <= 1))


TITLES = ("without self-guidance", "with self-guidance")
_FIXED_POINTS = (FPDM, EVERYWHERE)
_UNPUBLISHED = "not in the paper"


def _models(scale: Scale) -> list[Model]:
    return [*_FIXED_POINTS, *(dit(blocks) for blocks in (3, 4, 7, 14)), deep_dit(scale)]


def _pays(model: Model, scale: Scale, budget: int) -> bool:
    """Tell whether a budget pays for a step with self-guidance, which costs the deep DiT a post block more."""
    return model != deep_dit(scale) or budget > scale.depth


def _swept(scale: Scale) -> list[Model]:
    return [*_FIXED_POINTS, dit(4), deep_dit(scale)]


def _chosen(found: Measurements, *, guided: bool) -> Measurements:
    return replace(found, cells=[one for one in found.cells if one.chosen and bool(one.result.self_guidance) == guided])


def _fixed(found: Measurements) -> Measurements:
    return replace(found, cells=[one for one in found.cells if not one.chosen])


def _panel(part: Measurements, models: Sequence[Model], title: str) -> list[Panel]:
    return panels(part, models, BUDGETS, title=title)[:1]  # over block passes, which the budgets are


def _second(found: Distances | None) -> str:
    result = found.results[0] if found else None
    if result is None or SECOND not in result.measures:
        return MISSING
    low, high = (result.measures[f"{SECOND}_{end}"] for end in ("low", "high"))
    return f"{result.measures[SECOND]:.3g} ({low:.3g} to {high:.3g})"


def _plan(found: Distances | None) -> str:
    if found is None:
        return MISSING
    (result,) = found.results
    return f"{result.self_guidance:g}, depth {result.weak_depth}; {result.steps} x {result.iterations}"
