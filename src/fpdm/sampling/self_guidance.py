"""Self-guidance: guidance by a weaker answer of the same network, as a denoiser that wraps another, and its cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.models.cost import ModelCost
from fpdm.models.transformer import Prediction
from fpdm.sampling.budget import Budget
from fpdm.sampling.guidance import Denoiser
from fpdm.sampling.plan import Plan


@dataclass(frozen=True)
class SelfGuided:
    """Guided prediction v = v_strong + weight (v_strong - v_weak) on all channels, with one solution.

    The weaker answer is the network's own, at less depth: the first iterates of a fixed point, or a stack that is cut.
    So this is autoguidance (Karras et al. 2024) without a second network; skip-layer guidance is another relative.

    It may wrap `Guided` or be wrapped by it. Both are affine in the network's answers, so the images are the same; the
    samplers of this package wrap the network itself, so that `Guided` need not know of weaker answers.

    Attributes:
        denoiser: The denoiser to guide.
        weight: Weight of the difference; 0 is no guidance.
        depth: Depth of the weaker answer, as `DiffusionTransformer.forward` takes it.
        between: The lowest and the highest timestep that are guided; empty for all.

    Raises:
        ValueError: The weight is negative or not finite.
    """

    denoiser: Denoiser
    weight: float
    depth: int
    between: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight < math.inf:
            raise ValueError(f"the weight is {self.weight}; expected a finite number of at least 0 (0 is off)")

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        /,
        *,
        solver: FixedPointSolver,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
    ) -> Prediction:
        """Predict v with guidance, (B, C, H, W), at the timesteps `t` (B,) within the range.

        Raises:
            ValueError: `weak_depth` is given, but an answer that is guided already has no weaker one.
        """
        if weak_depth is not None:
            raise ValueError(f"weak_depth is {weak_depth}, but this denoiser is guided by its weaker answer already")
        low, high = self.between or (-math.inf, math.inf)
        acts = (low <= t) & (t <= high)  # (B,)
        if not self.weight or (self.between and not bool(acts.any())):
            return self.denoiser(x, t, y, solver=solver, z0=z0)
        both = self.denoiser(x, t, y, solver=solver, z0=z0, weak_depth=self.depth)
        assert both.weak is not None
        value = both.value + self.weight * (both.value - both.weak)  # (B, C, H, W)
        return replace(both, value=torch.where(acts.view(-1, 1, 1, 1), value, both.value), weak=None)


@dataclass(frozen=True)
class WeakAnswers:
    """The weaker answers that a plan takes from a model: at which timesteps, and what they cost.

    Attributes:
        cost: Cost of the model.
        depth: Their depth.
        between: The lowest and the highest timestep that have one; empty for all.
        reuse: Whether only the first solve starts cold.
    """

    cost: ModelCost
    depth: int
    between: tuple[float, ...]
    reuse: bool

    @classmethod
    def of(cls, plan: Plan, cost: ModelCost) -> WeakAnswers | None:
        """Return those of a plan with a model of this cost; None for a plan without self-guidance.

        Raises:
            ValueError: The model has no weaker answer of the plan's depth.
        """
        if not plan.self_guidance:
            return None
        middle = cost.middle
        depth = middle.weak_depth if plan.weak_depth is None else plan.weak_depth
        if not middle.weak_depths:
            raise ValueError("self-guidance needs a weaker answer, and a model without a middle has none; leave it out")
        if depth not in middle.weak_depths:
            blocks = len(middle.weak_depths)
            raise ValueError(
                f"weak_depth is {depth}; expected 0 to {blocks - 1}, fewer than the {blocks} blocks of the middle"
            )
        return cls(cost, depth, plan.self_guidance_range, plan.reuse)

    def check(self, table: Sequence[int]) -> None:
        """Check that some step of a plan with this table of iterations has an answer that differs from its weaker one.

        Raises:
            ValueError: None has: every solve starts cold and iterates no more often than the weaker answer does.
        """
        if self.cost.middle.adjustable and not self.reuse and max(table) <= self.depth:
            raise ValueError(
                f"weak_depth is {self.depth}, but with {max(table)} iterations per step and without reuse that is no "
                "weaker answer; give a smaller one, or more iterations"
            )

    def passes(self, timesteps: Sequence[float]) -> int:
        """Count their block passes in the first steps of a sample, which are at these timesteps."""
        return int(sum(self.cost.weak_passes(own) for own in self._iterations(timesteps)))

    def macs(self, timesteps: Sequence[float]) -> float:
        """Count their MACs in the first steps of a sample, which are at these timesteps."""
        return sum(self.cost.weak_macs(own) for own in self._iterations(timesteps))

    def _iterations(self, timesteps: Sequence[float]) -> list[float]:
        """Return the iterations of each weaker answer besides those of the answer itself."""
        low, high = self.between or (-math.inf, math.inf)
        return [
            self.cost.middle.weak_iterations(self.depth, cold=index == 0 or not self.reuse)
            for index, t in enumerate(timesteps)
            if low <= t <= high
        ]


def affordable_steps(plan: Plan, cost: ModelCost, timesteps: Callable[[int], Sequence[float]]) -> int:
    """Return the number of steps that a plan affords, weaker answers included.

    Args:
        plan: The plan, with its number of iterations.
        cost: Cost of the model.
        timesteps: Function from a number of steps to their timesteps.

    Raises:
        ValueError: The plan does not fit the model, or its budget is below one step.
    """
    steps = Budget.of(plan.budget, cost).steps(plan.iterations or None)
    if (weak := WeakAnswers.of(plan, cost)) is None:
        return steps
    each = cost.passes(plan.iterations or cost.middle.iterations.start)
    while steps and steps * each + weak.passes(timesteps(steps)) > plan.budget:
        steps -= 1
    if not steps:
        least = each + weak.passes(timesteps(1))
        raise ValueError(
            f"a budget of {plan.budget} block passes is below one step with self-guidance; expected at least {least}"
        )
    return steps
