"""The models of the reproduction, as changes to a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fpdm.data.config import DataConfig
from fpdm.models.cost import model_cost
from fpdm.reproduce.scale import Scale
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import make_recipe


@dataclass(frozen=True)
class Model:
    """A model to train.

    Attributes:
        name: Its name in tables, and the name of its folder.
        base: Model of the recipe that it changes: fpdm, fpdm-everywhere, dit-N or shared-N.
        network: Changes to the network, a `TransformerConfig`.
        training: Changes to the training, a `TrainConfig`.
        ablation: Whether it is trained with the compute of an ablation.
        data: Another data set than the scale's: "digits" or "pictures"; empty for the scale's.
        conditional: Whether it learns the classes.
    """

    name: str
    base: str = "fpdm"
    network: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    ablation: bool = False
    data: str = ""
    conditional: bool = True

    def macs(self, scale: Scale) -> float:
        """Return the training compute in multiply-accumulates."""
        return scale.ablation_macs if self.ablation else scale.macs

    def recipe(self, scale: Scale, seed: int, data: DataConfig) -> Recipe:
        """Return the recipe of one of its trainings.

        Args:
            scale: The size of the reproduction.
            seed: Seed of the training.
            data: The images or latents.

        Raises:
            ValueError: A change does not fit.
        """
        name = data.source if not data.is_folder else "fashion-latents" if data.is_cache else "folder"
        if not self.conditional:
            data = replace(data, conditional=False)
        rate = scale.fpdm_rate if self.base.startswith("fpdm") else scale.dit_rate
        found = make_recipe(
            name,
            self.base,
            data=data,
            **{
                **(
                    {"steps": 1}
                    if self.training.get("gradient") == "implicit"
                    else {"steps": 0, "macs": self.macs(scale)}
                ),
                "learning_rate": rate,
                "decay": 0.2,
                "batch_size": scale.batch_size,
                "seed": seed,
                "checkpoint_every": 500,
                "log_every": 50,
                "validate_every": 0,
                "sample_every": 0,
                "tracker": "none",
                **self.training,
            },
        )
        network = replace(found.model, width=scale.width, heads=scale.heads, **self.network)
        if not self.conditional:
            network = replace(network, num_classes=0)
        train = found.train
        if train.gradient == "implicit":
            # The cost of its backward solve is not fixed: it gets as many steps as S-JFB with the same N and M.
            n, m = train.no_grad_iters / 2, (train.grad_iters + 1) / 2
            step = scale.batch_size * model_cost(network).training_macs(n + m, n)
            train = replace(train, steps=round(self.macs(scale) / step), macs=0)
        return replace(found, name=self.name, model=network, train=train)


@dataclass(frozen=True)
class Training:
    """One training of a model.

    Attributes:
        model: The model.
        seed: Seed of the training.
    """

    model: Model
    seed: int

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        return re.sub(r"[^\w.-]+", "-", f"{self.model.name}-{self.seed}")


FPDM = Model("FPDM")
EVERYWHERE = Model("FPDM, timestep everywhere", "fpdm-everywhere")


def dit(blocks: int) -> Model:
    """Return a DiT with this many blocks."""
    return Model(f"DiT-{blocks}", f"dit-{blocks}")


def deep_dit(scale: Scale) -> Model:
    """Return the baseline, a DiT as deep as the budgets count."""
    return dit(scale.depth)


def ablation(name: str, **training: object) -> Model:
    """Return FPDM with another training, of the compute of an ablation."""
    return Model(name, training=training, ablation=True)


def stochastic(iterations: int) -> Model:
    """Return an ablation of S-JFB with N = M, which several studies show."""
    return ablation(f"S-JFB, N = M = {iterations}", no_grad_iters=iterations, grad_iters=iterations)


def shared(blocks: int) -> Model:
    """Return a DiT whose middle is one block, applied a fixed number of times."""
    return Model(f"one block, {blocks} times", f"shared-{blocks}")
