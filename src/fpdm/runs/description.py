"""Description of a trained model: its cost, what it was trained on and how, and the plans that it takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpdm.data.config import UNKNOWN
from fpdm.data.splits import counted
from fpdm.models.description import Description, describe_shape
from fpdm.runs.data_card import DataCard, read_data_card
from fpdm.runs.layout import README
from fpdm.runs.run import Run
from fpdm.sampling.budget import Budget
from fpdm.sampling.plan import DEFAULT_BUDGET, DEFAULT_ITERATIONS


@dataclass(frozen=True)
class RunDescription:
    """Description of a trained model.

    Attributes:
        run: The model.
        model: Its architecture and cost.
        card: Its training images; None if they are not recorded.
    """

    run: Run
    model: Description
    card: DataCard | None

    def to_dict(self) -> dict[str, Any]:
        """Collect everything as JSON values."""
        run, recipe, cost = self.run, self.run.recipe, self.model.cost
        config, middle = recipe.train, cost.middle
        trained = bool(run.progress.step)
        return {
            **self.model.to_dict(),
            "folder": None if run.folder is None else str(run.folder),
            "weights_sha256": run.weights,
            "samples": list(_shape(run)),
            "autoencoder": recipe.autoencoder.source or None,
            "schedule": {
                "prediction": recipe.schedule.prediction,
                "num_timesteps": recipe.schedule.num_timesteps,
                "zero_terminal_snr": recipe.schedule.zero_terminal_snr,
            },
            "data": {
                "source": None if recipe.data.source == UNKNOWN else recipe.data.source,
                "train_images": None if self.card is None else self.card.train,
                "classes": list(run.classes.names) or recipe.model.num_classes,
            },
            "training": {
                "steps": run.progress.step,
                "batch_size": config.batch_size,
                "images_seen": run.progress.step * config.batch_size,
                "seconds": run.progress.seconds,
                "macs": run.progress.macs,
                "gradient": config.gradient if middle.adjustable else "full",
                "iterations": config.mean_iterations if middle.adjustable else None,
                "label_dropout": config.label_dropout,
            }
            if trained
            else None,
            "plans": {
                "smallest_budget": cost.passes(middle.iterations.start),
                "iterations": [middle.iterations.start, None if middle.adjustable else middle.iterations.start],
                "allocations": middle.adjustable,
                "reuse": middle.adjustable,
                "guidance": bool(recipe.model.num_classes) and not (trained and not config.label_dropout),
                "self_guidance": bool(middle.weak_depths),
            },
        }

    def to_json(self) -> str:
        """Format the description as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def to_text(self) -> str:
        """Format the description as a table of costs and a few lines."""
        values = self.to_dict()
        lines = [(name, "; ".join(words)) for name, words in self._lines(values)]
        return "\n".join([self.model.to_text(), "", *(f"{name:<12}{words}" for name, words in lines if words)])

    def _lines(self, values: dict[str, Any]) -> list[tuple[str, list[str]]]:
        run, recipe, data, training = self.run, self.run.recipe, values["data"], values["training"]
        cost, names = self.model.cost, run.classes.names
        size = " x ".join(map(str, values["samples"]))
        latents = f"latents of {size}, decoded by {recipe.autoencoder.source}" if recipe.autoencoder.source else ""
        count = recipe.model.num_classes
        shown = f": {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else ""
        source = data["source"] or "images that are not recorded"
        if data["source"] is None and run.folder is not None and (run.folder / README).exists():
            source += f"; see {run.folder / README}"
        if data["train_images"] is not None:
            source = f"{counted(data['train_images'], 'image')} of {source}"
        schedule = recipe.schedule
        ends = "ending in pure noise" if schedule.zero_terminal_snr else "not ending in pure noise"
        trained = ["not recorded"]
        if training:
            trained = [
                f"{training['steps']:,} steps of {counted(training['batch_size'], 'image')}",
                f"{training['macs']:.2g} MACs in {training['seconds']:,.0f} s",
                f"gradient {training['gradient']}"
                + (f", {training['iterations']} iterations on average" if training["iterations"] else ""),
            ]
        return [
            ("samples", [latents or f"images of {size} pixels"]),
            ("classes", [f"{count}{shown}" if count else "none"]),
            ("trained on", [source]),
            ("trained for", trained),
            ("predicts", [f"{schedule.prediction}, over {schedule.num_timesteps:,} timesteps, {ends}"]),
            ("plans", [self._plans(cost.middle.adjustable), *self._guidance(values["plans"])]),
        ]

    def _plans(self, adjustable: bool) -> str:
        cost = self.model.cost
        least, budget = cost.passes(cost.middle.iterations.start), max(DEFAULT_BUDGET, cost.passes(DEFAULT_ITERATIONS))
        if not adjustable:
            return f"--budget of {least} or more, {least} block passes per step"
        steps = Budget.of(budget, cost).steps(DEFAULT_ITERATIONS)
        return (
            f"--budget of {least} or more, any number of --iterations, every --allocation, --reuse; a budget of "
            f"{budget} is {steps} steps of {DEFAULT_ITERATIONS} iterations"
        )

    @staticmethod
    def _guidance(plans: dict[str, Any]) -> list[str]:
        words = ("--guidance" if plans["guidance"] else "", "--self-guidance" if plans["self_guidance"] else "")
        return [word for word in words if word]


def _shape(run: Run) -> tuple[int, int, int]:
    shape = run.recipe.model
    return shape.in_channels, shape.image_size, shape.image_size


def describe_run(run: Run, iterations: int) -> RunDescription:
    """Describe a trained model.

    Args:
        run: The model.
        iterations: Fixed-point iterations per evaluation, if the model lets it be chosen.

    Raises:
        ValueError: `iterations` is below 1, or the record of its data is damaged.
    """
    card = read_data_card(run.folder) if isinstance(run.folder, Path) else None
    return RunDescription(run, describe_shape(run.recipe.name, run.recipe.model, iterations), card)
