"""`fpdm export`: a model as graphs for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fpdm.commands.options import Fields, Result
from fpdm.runs.layout import EXPORTED, folders_of
from fpdm.sampling.plan import DEFAULT_BUDGET, Plan

MAIN_OPTIONS = ("out", "format_", "weights", "budget", "autoencoder", "overwrite")
PLAN = Plan(budget=DEFAULT_BUDGET)


def export(
    run: str,
    *,
    out: Path,
    format_: Literal["onnx"] = "onnx",
    weights: Literal["float32", "int8"] = "float32",
    autoencoder: str = "",
    overwrite: bool = False,
    plan: Annotated[Plan, Fields()] = PLAN,
) -> Result:
    """Export a model as ONNX graphs whose depth is still a choice, for any runtime.

    The graphs are start.onnx (all that is done once in a step), iterate.onnx (one iteration), finish.onnx (the
    prediction), and for a model of latents decode.onnx. model.json has the noise schedule and the plan. Each graph
    takes any batch size. They are checked against PyTorch before the command ends.

    Args:
        run: Folder written by fpdm train or fpdm import, name of a model that comes with the package, folder written by
            FPDMPipeline.save_pretrained, or name of such a model on the hub.
        out: Folder for the graphs.
        format_: Format of the graphs.
        weights: "int8" keeps the weights of matrix products in 8 bits, for a third of the size and changed images.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        overwrite: Replace an export of another model or with other settings in the folder.
        plan: How to spend the budget, which model.json records; a runtime may spend any other.
    """
    EXPORTED.check(out, folders_of(Path(run)))
    from fpdm.export.export import export_model
    from fpdm.export.onnx_files import check_installed
    from fpdm.runs.pretrained import load_model

    check_installed()
    loaded = load_model(run, autoencoder=autoencoder)
    EXPORTED.check(out, {"image folder": loaded.recipe.data.folder})
    return export_model(loaded, plan, out, weights=weights, overwrite=overwrite)
