"""Defaults of sampling that belong to a model: its default plan, and plans that were tuned for budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from fpdm.configuration import Number, PositiveInt, Record, configuration
from fpdm.models.cost import ModelCost
from fpdm.sampling.budget import Budget
from fpdm.sampling.plan import DEFAULT_BUDGET, DEFAULT_ITERATIONS, Plan

_WITHOUT: dict[str, Any] = {"self_guidance": 0.0, "weak_depth": None, "self_guidance_range": ()}


@configuration
class TunedPlan:
    """The plan that a search found for one budget.

    Attributes:
        plan: The plan.
        kernel_distance: Kernel distance of its images to the validation images.
        images: Number of images that this was measured with.
        weights: SHA-256 of the weights that it was found for.
    """

    plan: Plan
    kernel_distance: Number
    images: PositiveInt
    weights: str = ""


@dataclass(frozen=True)
class ChosenPlan:
    """A plan, and where it comes from.

    Attributes:
        plan: The plan.
        origin: Which tuned plans it comes from, in words; empty for the model's default plan.
        guided: Whether it has self-guidance that nobody asked for.
    """

    plan: Plan
    origin: str = ""
    guided: bool = False


@configuration
class SamplingDefaults(Record):
    """The plans that a model is sampled with when nothing else is said, as in the `sampling.json` beside it.

    Attributes:
        plan: The plan for a model that was not tuned; its budget is the default budget.
        tuned: Tuned plans, from the smallest budget to the largest.

    Raises:
        ValueError: The tuned plans are not in the order of their budgets, or two have the same.
    """

    plan: Plan = field(default_factory=lambda: Plan(DEFAULT_BUDGET))
    tuned: tuple[TunedPlan, ...] = ()

    def __post_init__(self) -> None:
        budgets = [one.plan.budget for one in self.tuned]
        if any(a >= b for a, b in pairwise(budgets)):
            raise ValueError(f"tuned has the budgets {budgets}; expected each once, from small to large")

    def with_tuned(self, found: TunedPlan) -> SamplingDefaults:
        """Return the defaults with this plan for its budget, in place of an earlier one."""
        others = [one for one in self.tuned if one.plan.budget != found.plan.budget]
        return replace(self, tuned=tuple(sorted([*others, found], key=lambda one: one.plan.budget)))

    def at(self, budget: int, *, weights: str = "") -> ChosenPlan:
        """Return the plan for a budget: the tuned one, one between two tuned ones, or that of the nearest tuned budget.

        Args:
            budget: Block passes per image.
            weights: SHA-256 of the model's weights, to say so if plans were tuned for others; empty if not known.
        """
        if not self.tuned:
            return ChosenPlan(replace(self.plan, budget=budget))
        below = [one for one in self.tuned if one.plan.budget <= budget]
        above = [one for one in self.tuned if one.plan.budget >= budget]
        low, high = (below or above[:1])[-1], (above or below[-1:])[0]
        old = ", which was for earlier weights" if any(weights != one.weights for one in (low, high) if weights) else ""
        if low.plan.budget == high.plan.budget:
            found = replace(low.plan, budget=budget)
            nearest = "" if budget == low.plan.budget else ", the nearest budget that was"
            return ChosenPlan(found, f"tuned for {low.plan.budget:,} block passes{nearest}{old}")
        origin = f"between those tuned for {low.plan.budget:,} and {high.plan.budget:,} block passes{old}"
        return ChosenPlan(interpolate(low.plan, high.plan, budget), origin)

    def complete(
        self, given: Mapping[str, Any], cost: ModelCost, num_timesteps: int, *, weights: str = ""
    ) -> ChosenPlan:
        """Return the plan with what is given, and everything else as stored.

        If the number of iterations is not given, it is one that the budget pays for.

        Args:
            given: Fields of the plan that the user gives.
            cost: Cost of the model.
            num_timesteps: Number of timesteps of its schedule.
            weights: As in `at`.

        Raises:
            ValueError: A value is out of range, or values contradict each other.
        """
        stored = self.at(given.get("budget", self.plan.budget), weights=weights)
        off = _WITHOUT if given.get("self_guidance") == 0.0 else {}
        plan = replace(stored.plan, **{**off, **given})
        if "iterations" not in given:
            plan = _affordable(plan, cost, num_timesteps)
        if "self_guidance" not in given and plan.self_guidance and not _pays_for_weaker(plan, cost):
            plan = replace(plan, **_WITHOUT)
        return replace(stored, plan=plan, guided="self_guidance" not in given and plan.self_guidance > 0.0)


def interpolate(low: Plan, high: Plan, budget: int) -> Plan:
    """Return a plan for a budget between those of two plans.

    Iterations and the power of the grid are interpolated over the logarithm of the budget, and so is the weight of
    self-guidance if both have the same kind; everything else is that of the nearer plan.
    """
    share = math.log(budget / low.budget) / math.log(high.budget / low.budget)
    near = low if share < 0.5 else high
    changes: dict[str, Any] = {"budget": budget}
    if low.iterations and high.iterations:
        changes["iterations"] = round(low.iterations ** (1.0 - share) * high.iterations**share)
    if all(one.grid.startswith("phi^") for one in (low, high)):
        powers = [float(one.grid.removeprefix("phi^")) for one in (low, high)]
        changes["grid"] = f"phi^{round((1.0 - share) * powers[0] + share * powers[1], 3):.10g}"
    kinds = {(bool(one.self_guidance), one.weak_depth, one.self_guidance_range) for one in (low, high)}
    if near.self_guidance and len(kinds) == 1:
        changes["self_guidance"] = (1.0 - share) * low.self_guidance + share * high.self_guidance
    return replace(near, **changes)


def _affordable(plan: Plan, cost: ModelCost, num_timesteps: int) -> Plan:
    """Return the plan with fewer iterations if one step costs too much, or more if there would be too many steps."""
    if not cost.middle.adjustable:
        return plan
    Budget.of(plan.budget, cost)  # raises if it is below one iteration
    most = (plan.budget - cost.explicit) // cost.middle.passes
    least = -(-(plan.budget // (num_timesteps + 1) + 1 - cost.explicit) // cost.middle.passes)
    return replace(plan, iterations=max(min(plan.iterations or DEFAULT_ITERATIONS, most), least))


def _pays_for_weaker(plan: Plan, cost: ModelCost) -> bool:
    from fpdm.sampling.self_guidance import affordable_steps  # imports PyTorch

    try:
        affordable_steps(replace(plan, self_guidance_range=()), cost, range)
    except ValueError:
        return False
    return True
