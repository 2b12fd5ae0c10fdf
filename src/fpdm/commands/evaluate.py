"""`fpdm evaluate`: the FID of a run, measured as the field measures it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from fpdm.commands.options import Fields, Result, plan_options
from fpdm.fid.settings import EVALUATION, EvaluationSettings
from fpdm.runs.layout import folders_of
from fpdm.sampling.plan import Plan

MAIN_OPTIONS = ("out", "reference", "budget", "num_images", "guidance", "extractor")
PLAN = Plan(budget=560)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_SETTINGS = EvaluationSettings()


def evaluate(
    run: Path,
    *,
    reference: Path,
    out: Path,
    budget: str = str(PLAN.budget),
    autoencoder: str = "",
    compile_: bool = False,
    overwrite: bool = False,
    evaluation: Annotated[EvaluationSettings, Fields()] = _SETTINGS,
    plan: Annotated[Plan, Fields(without=("budget",))] = PLAN,
    given: Mapping[str, Any] = _NOTHING,
) -> Result | None:
    """Measure the FID of a run against reference statistics.

    Under accelerate launch or torchrun, the processes share the work; the figures do not depend on their number.

    Args:
        run: Folder written by fpdm train or fpdm import.
        reference: Reference statistics (.npz), published with ADM or written by fpdm reference.
        out: Folder for the result. The same command continues an interrupted evaluation and shows a finished one.
        budget: Budget per image: block passes (280), MACs (30GMAC), or seconds of one image by itself (0.5s), for which
            the model is measured first, each time anew. DiT-XL spends 28 block passes per step.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        compile_: Compile the model, which takes a minute or more and then makes every step faster on a GPU. On a CPU,
            packed weights, which nothing compiles, are about as fast.
        overwrite: Replace the result in the folder if it is one of other settings or another reference.
        evaluation: What is generated, and how it is measured.
        plan: How to spend the budget. What is left out is as the sampling.json beside the model has it, for instance as
            fpdm tune found it for this budget.
        given: The options that are given, by name.
    """
    EVALUATION.check(out, folders_of(run))
    from fpdm.fid import evaluation as module
    from fpdm.runs.price import complete
    from fpdm.runs.run import load_run
    from fpdm.sampling.price import Amount

    amount = Amount.parse(budget)
    loaded = load_run(run, autoencoder=autoencoder)
    EVALUATION.check(out, {"image folder": loaded.recipe.data.folder})
    if compile_:
        loaded.model.compile_iterations()
    plan = complete(loaded, amount, plan_options(given)).plan
    return module.evaluate(loaded, plan, reference, out, evaluation, overwrite=overwrite)
