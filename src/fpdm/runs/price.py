"""Predict what an image of a model costs on this machine under a budget in any unit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fpdm.runs.description import RunDescription
from fpdm.runs.run import Run
from fpdm.sampling.defaults import ChosenPlan
from fpdm.sampling.images import sample_shape
from fpdm.sampling.plan import Plan
from fpdm.sampling.price import Amount, Price, affordable_passes, calibrate, price


@dataclass(frozen=True)
class Priced:
    """A model and the price of its images.

    Attributes:
        model: Description of the model.
        plan: The plan, with its budget in block passes.
        steps: Number of steps.
        price: What it costs.
    """

    model: RunDescription
    plan: Plan
    steps: int
    price: Price

    def to_text(self) -> str:
        """Describe the model as a table, and the price in a line."""
        return f"{self.model.to_text()}\n\na budget of {self.plan.budget} in {self.steps} steps: {self.price.to_text()}"

    def to_json(self) -> str:
        """Format the cost and the price as JSON."""
        priced = {"plan": self.plan.values(), "steps": self.steps, "price": asdict(self.price)}
        return json.dumps({**self.model.to_dict(), **priced}, indent=1)


def predict(run: Run, described: RunDescription, budget: str, *, batch_size: int, seconds: float = 1.0) -> Priced:
    """Predict the price of the images of a run.

    Args:
        run: The run.
        described: Its description, with the iterations per step.
        budget: Budget per image, as `Amount.parse` reads it.
        batch_size: Number of images of a batch, for the throughput.
        seconds: How long each calibration measures.

    Raises:
        ValueError: The budget cannot be read, or is below one step.
    """
    amount, iterations = Amount.parse(budget), _open(described)
    plan = Plan(resolve(run, amount, Plan(1, iterations), seconds=seconds), iterations)
    run.check_fits(batch_size, plan.guidance)
    sampler = run.sampler(plan)
    return Priced(
        described, sampler.plan, len(sampler.timesteps), price(sampler, batch_size=batch_size, seconds=seconds)
    )


def resolve(run: Run, budget: Amount, plan: Plan, *, seconds: float = 1.0) -> int:
    """Return a budget per image in block passes, whatever its unit.

    Args:
        run: The run that is sampled.
        budget: The budget.
        plan: The rest of the plan, whose own budget does not matter.
        seconds: How long to measure for a budget in seconds.

    Raises:
        ValueError: The budget is below one step.
    """
    if budget.unit == "passes":
        return int(budget.value)
    cost, calibration = run.model.cost(), None
    iterations = plan.with_iterations(cost).iterations
    if budget.unit == "seconds":
        one_step = cost.passes(iterations or cost.middle.iterations.start)
        plain = replace(plan, budget=one_step, self_guidance=0.0, weak_depth=None, self_guidance_range=())
        calibration = calibrate(run.sampler(replace(plain, allocation="constant")), 1, seconds=seconds)
    decoding = run.autoencoder.decoding_macs(sample_shape(run.model))
    return affordable_passes(
        budget, cost, iterations, evaluations=plan.evaluations, decoding=decoding, calibration=calibration
    )


def complete(run: Run, budget: Amount | None, given: Mapping[str, Any]) -> ChosenPlan:
    """Return the plan for a budget in any unit, with what the user gives and the model's defaults for the rest.

    Args:
        run: The run that is sampled.
        budget: The budget; None for the model's default.
        given: Fields of the plan besides the budget.

    Raises:
        ValueError: The budget is below one step, a value is out of range, or values contradict each other.
    """
    if budget is None:
        return run.complete(given)
    usual = Plan(1) if budget.unit == "passes" else run.complete(given).plan  # whose cost decides
    return run.complete({**given, "budget": resolve(run, budget, usual)})


def _open(described: RunDescription) -> int:
    """Return the iterations per step, 0 for a model that does not leave their number open."""
    return described.model.iterations if described.model.cost.middle.adjustable else 0
