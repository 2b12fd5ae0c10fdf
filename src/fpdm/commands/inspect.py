"""`fpdm inspect`: a look into one model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from fpdm.commands.options import Fields, Result
from fpdm.inspection.settings import INSPECTED, InspectionSettings
from fpdm.runs.layout import folders_of
from fpdm.sampling.plan import DEFAULT_BUDGET, Plan

MAIN_OPTIONS = ("out", "budget", "num_images", "class_", "data", "guidance")
PLAN = Plan(budget=DEFAULT_BUDGET)
_SETTINGS = InspectionSettings()


def inspect(
    run: str,
    *,
    out: Path,
    budget: str = str(DEFAULT_BUDGET),
    class_: str | None = None,
    data: str = "",
    data_root: Path | None = None,
    autoencoder: str = "",
    overwrite: bool = False,
    inspection: Annotated[InspectionSettings, Fields()] = _SETTINGS,
    plan: Annotated[Plan, Fields(without=("budget", "self_guidance", "weak_depth", "self_guidance_range"))] = PLAN,
) -> Result:
    """Show what a model predicts over timesteps and iterations, where it converges, and what its images resemble.

    Writes pictures, a short GIF and the numbers behind them. A DiT has no iterations: its blocks take their place.

    Args:
        run: Folder of a run or of a model, name of a model that comes with the package, or name on the hub.
        out: Folder for the pictures.
        budget: Budget per image: block passes (280), MACs (30GMAC), or seconds of one image by itself (0.5s).
        class_: Look at images of this class only, given by its name, or by its number in the data (default: all classes
            in turn).
        data: Training images, of which the nearest are shown: a folder, digits or fashion-mnist (default: where the
            model recorded them).
        data_root: Folder with the files of a data set that is given by name.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the model recorded it.
        overwrite: Replace an inspection of another model or with other settings in the folder.
        inspection: What is looked at.
        plan: How to spend the budget. DiT-XL spends 28 block passes per step.
    """
    INSPECTED.check(out, folders_of(Path(run)))
    from fpdm.data.labels import class_label
    from fpdm.inspection.inspect import inspect as look
    from fpdm.runs.pretrained import load_model
    from fpdm.runs.price import resolve
    from fpdm.sampling.price import Amount

    amount = Amount.parse(budget)
    loaded, label = load_model(run, autoencoder=autoencoder), None
    if class_ is not None:
        label = class_label(class_, loaded.classes.names, loaded.model.shape.num_classes, loaded.classes.numbers)
    INSPECTED.check(out, {"image folder": loaded.recipe.data.folder})
    plan = replace(plan, budget=resolve(loaded, amount, plan))
    return look(loaded, plan, out, inspection, label=label, data=data, data_root=data_root, overwrite=overwrite)
