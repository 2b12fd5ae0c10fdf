"""`fpdm evaluate`: the FID of a run, measured as the field measures it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fpdm.commands.options import Fields, Result
from fpdm.fid.settings import EVALUATION, EvaluationSettings
from fpdm.runs.layout import folders_of
from fpdm.sampling.plan import Plan

MAIN_OPTIONS = ("out", "reference", "budget", "num_images", "guidance", "extractor")
PLAN = Plan(budget=560)
_SETTINGS = EvaluationSettings()


def evaluate(
    run: Path,
    *,
    reference: Path,
    out: Path,
    autoencoder: str = "",
    overwrite: bool = False,
    evaluation: Annotated[EvaluationSettings, Fields()] = _SETTINGS,
    plan: Annotated[Plan, Fields()] = PLAN,
) -> Result | None:
    """Measure the FID of a run against reference statistics.

    Under accelerate launch or torchrun, the processes share the work; the figures do not depend on their number.

    Args:
        run: Folder written by fpdm train or fpdm import.
        reference: Reference statistics (.npz), published with ADM or written by fpdm reference.
        out: Folder for the result. The same command continues an interrupted evaluation and shows a finished one.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        overwrite: Replace the result in the folder if it is one of other settings or another reference.
        evaluation: What is generated, and how it is measured.
        plan: How to spend the budget. DiT-XL spends 28 block passes per step.
    """
    EVALUATION.check(out, folders_of(run))
    from fpdm.fid import evaluation as module
    from fpdm.runs.run import load_run

    loaded = load_run(run, autoencoder=autoencoder)
    EVALUATION.check(out, {"image folder": loaded.recipe.data.folder})
    return module.evaluate(loaded, plan, reference, out, evaluation, overwrite=overwrite)
