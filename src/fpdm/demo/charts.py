"""Small charts of a plan, as SVG that takes the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fpdm.models.cost import ModelCost
from fpdm.sampling.images import ImageSampler

MOST_ITERATIONS = 20
MEASURED: dict[str, tuple[Sequence[int], Sequence[int]]] = {"fpdm-fashion": ((140, 280, 560), ())}
"""Budgets, and iterations if they are known, that were measured; the model's card has the results."""
_WIDTH, _BARS, _CURVE = 320, 56, 120
_MOST_STEPS = 300


def bars(table: Sequence[int]) -> str:
    """Draw the iterations of each step as bars, from noise to the clean image."""
    highest, width = max(MOST_ITERATIONS // 2, *table), _WIDTH / len(table)
    rects = "".join(
        f'<rect x="{k * width:.2f}" y="{_BARS - _BARS * n / highest:.2f}" width="{max(0.85 * width, 0.4):.2f}" '
        f'height="{_BARS * n / highest:.2f}"/>'
        for k, n in enumerate(table)
    )
    return _svg(f'<g fill="var(--color-accent)">{rects}</g>', _BARS, f"Iterations of each step: {list(table)}")


def trade(cost: ModelCost, budget: int, iterations: int, measured: tuple[Sequence[int], Sequence[int]] | None) -> str:
    """Draw how many steps a budget pays for at every number of iterations, and what was chosen and measured.

    Args:
        cost: Cost of a model whose number of iterations can be chosen.
        budget: Block passes.
        iterations: The chosen number.
        measured: Budgets and iterations that were measured, if any were.
    """

    def place(count: float, passes: int) -> tuple[float, float]:
        steps = max(passes / cost.passes(int(count)), 1)
        x = 32 + (_WIDTH - 48) * math.log(count) / math.log(MOST_ITERATIONS)
        return x, height(steps)

    def height(steps: float) -> float:
        return (_CURVE - 28) - (_CURVE - 38) * min(math.log(steps) / math.log(_MOST_STEPS), 1)

    def line(passes: int, style: str) -> str:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(n, passes) for n in range(1, MOST_ITERATIONS + 1)))
        return f'<polyline points="{points}" fill="none" {style}/>'

    grey, parts = "var(--body-text-color-subdued)", []
    for passes in measured[0] if measured else ():
        parts.append(line(passes, f'stroke="{grey}" stroke-width="0.6" stroke-dasharray="3 2"'))
        for count in measured[1] if measured else ():
            x, y = place(count, passes)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{grey}"/>')
    parts.append(line(budget, 'stroke="var(--color-accent)" stroke-width="2"'))
    x, y = place(iterations, budget)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--color-accent)"/>')
    style = f'font-size="10" fill="{grey}"'
    for count in (1, 2, 5, 10, 20):
        parts.append(
            f'<text x="{place(count, budget)[0]:.1f}" y="{_CURVE - 14}" text-anchor="middle" {style}>{count}</text>'
        )
    parts.append(f'<text x="{_WIDTH}" y="{_CURVE - 3}" text-anchor="end" {style}>iterations per step</text>')
    for steps in (1, 10, 100):
        parts.append(f'<text x="20" y="{height(steps) + 3:.1f}" text-anchor="end" {style}>{steps}</text>')
    parts.append(f'<text x="0" y="9" {style}>steps</text>')
    if measured:
        parts.append(f'<text x="{_WIDTH}" y="9" text-anchor="end" {style}>dashed: budgets that were measured</text>')
    return _svg("".join(parts), _CURVE, f"{budget} block passes at {iterations} iterations per step")


def describe(sampler: ImageSampler) -> str:
    """Say in one line how a budget is spent: "20 steps x 5 iterations, 140 of 140 block passes"."""
    steps, least, most = len(sampler.timesteps), min(sampler.table), max(sampler.table)
    what = "iterations" if sampler.cost.middle.adjustable else "blocks in the middle"
    each = f"{most}" if least == most else f"{least} to {most}"
    spent = sampler.plan.budget - sampler.unspent
    return f"{steps} steps x {each} {what}, {spent} of {sampler.plan.budget} block passes"


def _svg(content: str, height: int, says: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" style="max-width: 36rem" role="img" '
        f'aria-label="{escape(says)}" xmlns="http://www.w3.org/2000/svg">{content}</svg>'
    )
