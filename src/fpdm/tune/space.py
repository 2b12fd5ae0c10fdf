"""The plans of a model for one budget that a search may try."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fpdm.compare.search import Choices, fits, steps_of
from fpdm.randomness import permutation
from fpdm.runs.run import Run
from fpdm.sampling.plan import Plan

T = TypeVar("T")


class Space:
    """The plans that a model, a budget and the choices allow.

    Args:
        run: The model.
        choices: The choices besides the sampler.
        samplers: Samplers to choose from.
        budget: Block passes per image.
        guidance: Scale of classifier-free guidance.
        seed: Seed of the order of the plans.

    Raises:
        ValueError: The budget pays for none of the choices, or one of them does not fit the model.
    """

    def __init__(
        self, run: Run, choices: Choices, samplers: Sequence[str], *, budget: int, guidance: float, seed: int
    ) -> None:
        self.run, self.seed = run, seed
        for sampler in samplers:
            choices.check(run, budget, sampler, guidance)
        self._start = choices.first(run, budget, samplers[0], guidance)
        *axes, self._guided = choices.axes(run, budget)
        self._axes: list[list[dict[str, Any]]] = [[{"sampler": name} for name in samplers], *axes]
        self._without = [one for one in self._guided if not one["self_guidance"]] or self._guided

    def plans(self) -> list[Plan]:
        """Return all plans that are different, in random order; without self-guidance, unless every plan has it."""
        product = itertools.product(*self._axes, self._without)
        changes = [{key: value for one in many for key, value in one.items()} for many in product]
        return self._shuffled(self.different(replace(self._start, **one) for one in changes), 0)

    def neighbours(self, plan: Plan, round_: int) -> list[Plan]:
        """Return the plans that differ from one in a single choice, in an order that is random in every round."""
        changes = [change for axis in self._axes for change in axis]
        return self._shuffled(self.different(replace(plan, **change) for change in changes), round_)

    def guided(self, plan: Plan) -> list[Plan]:
        """Return a plan with each kind of self-guidance."""
        return self.different(replace(plan, **change) for change in self._guided)

    def different(self, plans: Iterable[Plan]) -> list[Plan]:
        """Return the plans that the budget pays for, each once: plans with the same steps draw the same images."""
        with warnings.catch_warnings():  # of guidance that a run was not trained for, which `check` has said
            warnings.simplefilter("ignore", RuntimeWarning)
            found = {self.key(plan): plan for plan in reversed([one for one in plans if fits(self.run, one)])}
        return list(reversed(found.values()))

    def key(self, plan: Plan) -> object:
        """Return what decides the images of a plan."""
        return steps_of(self.run, plan)

    def _shuffled(self, items: Sequence[T], index: int) -> list[T]:
        return [items[place] for place in permutation(len(items), seed=self.seed, index=index)]
