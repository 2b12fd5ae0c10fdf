"""`fpdm evaluate`: the FID of a run, by its whole protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from fpdm.commands.folders import writable
from fpdm.commands.options import Command
from fpdm.commands.sample import with_iterations
from fpdm.fid.evaluation import Evaluation, evaluate
from fpdm.fid.settings import EvaluationSettings
from fpdm.runs.run import load_run
from fpdm.sampling.plan import Plan

PLAN = Plan(budget=560)
_SETTINGS = EvaluationSettings()


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Measure a run's samples against reference statistics, as FID is measured.

    With accelerate launch or torchrun, several processes share the work, and the figures stay the same.

    Attributes:
        run: Folder made by fpdm train.
        reference: Reference statistics (.npz): ADM's, or made by fpdm reference.
        out: Folder for the result; an evaluation that was interrupted goes on, a finished one is shown again.
        autoencoder: Where the autoencoder of the model's latents is now, if it has moved since: a name on the hub, or a
            folder.
        evaluation: What is drawn, and what it is measured by.
        plan: How to spend the budget; DiT-XL spends 28 block passes per step. With 0 iterations the number is 5, or the
            only one that the model allows.
    """

    run: Positional[Path]
    reference: Path
    out: Path
    autoencoder: str = ""
    evaluation: EvaluationSettings = _SETTINGS
    plan: Plan = PLAN

    def execute(self) -> Evaluation | None:
        """Measure them."""
        writable(self.out)
        run = load_run(self.run, autoencoder=self.autoencoder)
        return evaluate(run, with_iterations(self.plan, run.model), self.reference, self.out, self.evaluation)
