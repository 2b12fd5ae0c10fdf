"""Search for plans: the same number of trials for every model, measured on images that no report uses."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from fpdm.sampling.budget import Budget
from fpdm.sampling.plan import Plan
from fpdm.sampling.timesteps import grid

if TYPE_CHECKING:  # the settings of a comparison are read without PyTorch
    from fpdm.models.cost import ModelCost
    from fpdm.runs.run import Run

_LADDER = tuple(f"phi^{power:g}" for power in (1.25, 1.75, 1, 2, 1.125, 1.375, 1.625, 1.875, 2.25, 2.5, 0.875, 0.75, 3))


@dataclass(frozen=True)
class Choices:
    """The choices from which a plan is made.

    Attributes:
        iterations: Fixed-point iterations per step, for a model that iterates. Numbers that the budget cannot pay for
            are left out, and so are those that would give more steps than there are timesteps.
        reuse: Whether to start each solve from the last step's solution, for a model that iterates.
        grids: Timestep grids.
        allocations: Allocations of the iterations to the steps, for a model that iterates.
        self_guidance: Weights of self-guidance.
        weak_depths: Depths of its weaker answer, of which a model tries those that it has; empty for its usual one and
            the next.
        self_guidance_range: Same as `Plan.self_guidance_range`.
    """

    iterations: tuple[int, ...]
    reuse: tuple[bool, ...]
    grids: tuple[str, ...]
    allocations: tuple[str, ...]
    self_guidance: tuple[float, ...] = (0.0,)
    weak_depths: tuple[int, ...] = ()
    self_guidance_range: tuple[int, ...] = ()

    def values(self) -> dict[str, Any]:
        """Return the fields by name, for a record; without those of self-guidance if it is off, as in older records."""
        values = asdict(self)
        if not any(self.self_guidance):
            for name in ("self_guidance", "weak_depths", "self_guidance_range"):
                del values[name]
        return values

    def axes(self, run: Run, budget: int) -> list[list[dict[str, Any]]]:
        """Return changes to a plan, in groups that are searched one after the other.

        Raises:
            ValueError: The budget pays for none of the choices, or for more steps of each than there are timesteps.
        """
        grids = [{"grid": name} for name in self.grids]
        spending = Budget.of(budget, run.model.cost())
        guided = self._self_guidance(run.model.cost())
        if not spending.adjustable:
            return [grids, guided]
        possible = possible_iterations(run, budget, self.iterations)
        if not possible:
            steps = spending.steps(min(self.iterations))  # raises if it is the budget that is too small
            raise ValueError(
                f"a budget of {budget} block passes is {steps} steps of {min(self.iterations)} iterations, more than "
                f"the {run.recipe.schedule.num_timesteps} timesteps; give a smaller budget, or more --iterations"
            )
        return [
            [{"iterations": i, "reuse": reuse} for i, reuse in itertools.product(possible, self.reuse)],
            grids,
            [{"allocation": name} for name in self.allocations],
            guided,
        ]

    def _self_guidance(self, cost: ModelCost) -> list[dict[str, Any]]:
        usual = cost.middle.weak_depth
        depths = [depth for depth in self.weak_depths or (usual, usual + 1) if depth in cost.middle.weak_depths]
        changes: list[dict[str, Any]] = []
        for weight in self.self_guidance:
            between = self.self_guidance_range if weight else ()
            changes += [
                {"self_guidance": weight, "weak_depth": depth, "self_guidance_range": between}
                for depth in (depths if weight else [None])
            ]
        if not changes:
            raise ValueError(
                f"self_guidance is {self.self_guidance}, but the model has no weaker answer of depth "
                f"{' or '.join(map(str, self.weak_depths)) or usual}; add 0, which is without"
            )
        return changes

    def first(self, run: Run, budget: int, sampler: str, guidance: float) -> Plan:
        """Return the plan that a search starts with, made of the first of every choice.

        Raises:
            ValueError: See `axes`.
        """
        plan = Plan(budget, sampler=sampler, guidance=guidance, reuse=False)  # type: ignore[arg-type]  # it is checked
        for axis in self.axes(run, budget):
            plan = replace(plan, **axis[0])
        return plan

    def check(self, run: Run, budget: int, sampler: str, guidance: float) -> None:
        """Check the first plan and all that differ from it by one change, without drawing images.

        Warns of guidance that the model was not trained for.

        Raises:
            ValueError: The budget pays for none of the choices, or one of them is unknown or does not fit the model.
        """
        run.check_guidance(guidance)
        start, axes = self.first(run, budget, sampler, guidance), self.axes(run, budget)
        if not any(fits(run, replace(start, **change)) for change in axes[0]):
            steps_of(run, start)  # raises
        for axis in axes:
            for change in axis:  # the first changes nothing
                if fits(run, plan := replace(start, **change)):
                    steps_of(run, plan)

    @property
    def trials(self) -> int:
        """Number of plans tried per model. Models with fewer free choices try more timestep grids to reach it."""
        guided = sum(len(self.weak_depths or "12") if weight else 1 for weight in self.self_guidance)
        return len(self.iterations) * len(self.reuse) + len(self.grids) + len(self.allocations) + guided - 3


def possible_iterations(run: Run, budget: int, iterations: Sequence[int]) -> list[int]:
    """Return the numbers of iterations per step that fit a budget; empty for a model whose number is fixed."""
    spending, most = Budget.of(budget, run.model.cost()), run.recipe.schedule.num_timesteps
    if not spending.adjustable:
        return []
    return [i for i in iterations if 1 <= budget // spending.cost([i]) <= most]


@dataclass(frozen=True)
class Trial:
    """A plan and the distance of its images to the validation images."""

    plan: Plan
    distance: float


def search(
    run: Run, choices: Choices, *, budget: int, sampler: str, guidance: float, distance: Callable[[Plan], float]
) -> list[Trial]:
    """Try plans, one group of choices after the other, each starting from the best so far.

    Plans with the same steps are tried once. A model with fewer choices than others tries finer grids instead, so that
    all have the same number of trials, unless there are no more different plans (one step has one grid).

    Args:
        run: The run.
        choices: The choices.
        budget: Block passes per image.
        sampler: Same as `Plan.sampler`.
        guidance: Same as `Plan.guidance`.
        distance: Draws images with a plan and returns their distance to the validation images.

    Returns:
        The trials, best first.

    Raises:
        ValueError: The budget pays for none of the choices.
    """
    best = choices.first(run, budget, sampler, guidance)
    tried: dict[object, Trial] = {}

    def attempt(plan: Plan) -> None:
        if fits(run, plan) and (key := steps_of(run, plan)) not in tried:
            tried[key] = Trial(plan, distance(plan))

    for axis in choices.axes(run, budget):
        for change in axis:
            attempt(replace(best, **change))
        if not tried:
            steps_of(run, best)  # raises: the budget is below one step
        best = min(tried.values(), key=lambda trial: trial.distance).plan
    if len(choices.grids) > 1:
        for finer in _LADDER:
            if len(tried) >= choices.trials:
                break
            attempt(replace(best, grid=finer))
    return sorted(tried.values(), key=lambda trial: trial.distance)


def fits(run: Run, plan: Plan) -> bool:
    """Return whether the budget pays for self-guidance, if there is any, and the weaker answer is weaker."""
    if not plan.self_guidance:
        return True
    cost, depth = run.model.cost(), plan.weak_depth or 0
    if cost.middle.adjustable and not plan.reuse and plan.iterations <= depth:
        return False
    from fpdm.sampling.self_guidance import affordable_steps  # imports PyTorch

    try:
        affordable_steps(plan, cost, functools.partial(grid, run.recipe.schedule, name=plan.grid))
    except ValueError:  # the budget is below one step
        return False
    return True


def steps_of(run: Run, plan: Plan) -> object:
    """Return what decides the images of a plan: plans with equal values draw the same images."""
    sampler = run.sampler(replace(plan, allocation="constant"))
    fixed: Sequence[int] | str = sampler.table
    if plan.adaptive:
        fixed = plan.allocation
    elif plan.allocation != "constant":
        fixed = run.sampler(plan).table
    reuses = plan.reuse and len(sampler.timesteps) > 1
    guided = (plan.self_guidance, plan.weak_depth, plan.self_guidance_range)
    return plan.sampler, tuple(sampler.timesteps), tuple(fixed), reuses, plan.guidance, plan.solver, guided
