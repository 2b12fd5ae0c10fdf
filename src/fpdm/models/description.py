"""Description of a preset's cost, as text or JSON, without allocating the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fpdm.models.config import TransformerConfig, preset
from fpdm.models.cost import ModelCost, model_cost


@dataclass(frozen=True)
class Description:
    """Name, architecture and cost of a model.

    Attributes:
        name: Name of the preset.
        shape: Architecture of the model.
        cost: Cost by part.
        iterations: Number of iterations that the totals assume.
    """

    name: str
    shape: TransformerConfig
    cost: ModelCost
    iterations: int

    def to_dict(self) -> dict[str, Any]:
        """Collect parameters and MACs (per sample and evaluation), in total and by part."""
        middle = self.cost.middle
        return {
            "model": self.name,
            "parameters": self.cost.total_parameters,
            "parameters_by_part": self.cost.parameters,
            "tokens": self.shape.tokens,
            "iterations": self.iterations,
            "block_passes": self.cost.passes(self.iterations),
            "macs": int(self.cost.evaluation_macs(self.iterations)),
            "macs_by_part": {
                **self.cost.macs,
                "middle_once": middle.prepare,
                "middle_per_iteration": middle.iterate,
            },
        }

    def to_json(self) -> str:
        """Format the cost as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def to_text(self) -> str:
        """Format the cost as a table."""
        values = self.to_dict()
        lines = [
            f"{self.name}: {values['parameters']:,} parameters, {self.shape.tokens} tokens of width {self.shape.width}",
            f"one evaluation with {self.iterations} iterations: {values['block_passes']} block passes, "
            f"{values['macs'] / 1e9:.3f} GMACs",
            "",
            f"{'part':<22}{'parameters':>14}{'MMACs':>12}",
        ]
        for part in self.cost.parameters:
            if part == "middle":
                lines.append(f"{'middle':<22}{self.cost.parameters['middle']:>14,}")
                lines.append(f"{'  once per timestep':<22}{'':>14}{self.cost.middle.prepare / 1e6:>12.2f}")
                lines.append(f"{'  per iteration':<22}{'':>14}{self.cost.middle.iterate / 1e6:>12.2f}")
            else:
                lines.append(f"{part:<22}{self.cost.parameters[part]:>14,}{self.cost.macs[part] / 1e6:>12.2f}")
        return "\n".join(lines)


def describe(name: str, iterations: int = 5) -> Description:
    """Describe the preset with this name.

    Args:
        name: Name of the preset.
        iterations: Number of iterations, if the model lets it be chosen.

    Raises:
        ValueError: The preset is unknown, or `iterations` is below 1.
    """
    return describe_shape(name, preset(name), iterations)


def describe_shape(name: str, shape: TransformerConfig, iterations: int) -> Description:
    """Describe an architecture.

    Args:
        name: Name of the model.
        shape: Its architecture.
        iterations: Number of iterations, if the model lets it be chosen.

    Raises:
        ValueError: `iterations` is below 1.
    """
    cost = model_cost(shape)
    allowed = cost.middle.iterations
    if iterations not in allowed:
        if cost.middle.adjustable:
            raise ValueError(f"iterations is {iterations}; expected {allowed.start} or more")
        iterations = allowed.start
    return Description(name, shape, cost, iterations)
