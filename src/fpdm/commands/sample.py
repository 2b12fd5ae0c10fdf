"""`fpdm sample`: images of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tyro.conf import Positional

from fpdm.commands.folders import writable
from fpdm.commands.options import Command
from fpdm.data.labels import class_label
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.data_card import read_data_card
from fpdm.runs.run import load_run
from fpdm.runs.samples import Sampled, sample_to_folder
from fpdm.sampling.plan import Plan

PLAN = Plan(budget=140)
ITERATIONS = 5  # where neither the user nor the model decides


@dataclass(frozen=True, kw_only=True)
class Sample(Command):
    """Draw images from a run under a budget of block passes.

    Attributes:
        run: Folder made by fpdm train; it may still be training.
        out: Folder for the images; one that was interrupted is finished.
        num_images: How many.
        seed: Image i is a function of the seed and i alone.
        batch_size: Images at once; changes nothing but speed and memory.
        class_: Draw this class only, by its name or else its number (default: all in turn).
        autoencoder: Where the autoencoder of the model's latents is now, if it has moved since: a name on the hub, or a
            folder.
        plan: How to spend the budget; DiT-XL spends 28 block passes per step. With 0 iterations the number is 5, or the
            only one that the model allows.
    """

    run: Positional[Path]
    out: Path
    num_images: int = 64
    seed: int = 0
    batch_size: int = 64
    class_: str | None = None
    autoencoder: str = ""
    plan: Plan = PLAN

    def execute(self) -> Sampled:
        """Draw them."""
        writable(self.out)
        run, label = load_run(self.run, autoencoder=self.autoencoder), None
        plan = with_iterations(self.plan, run.model)
        if self.class_ is not None:
            record = read_data_card(self.run)
            label = class_label(self.class_, record.classes if record else (), run.model.shape.num_classes)
        return sample_to_folder(
            run, plan, self.num_images, self.out, seed=self.seed, batch_size=self.batch_size, label=label
        )


def with_iterations(plan: Plan, model: DiffusionTransformer) -> Plan:
    """The plan, with a number of iterations where neither the user nor the model decides."""
    if plan.iterations or not model.cost().middle.adjustable:
        return plan
    return replace(plan, iterations=ITERATIONS)
