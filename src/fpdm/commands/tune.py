"""`fpdm tune`: the best plan of a model for a budget, kept beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fpdm.commands.options import ONE_OF_SEVERAL, Fields, Result
from fpdm.runs.layout import folders_of
from fpdm.tune.settings import TUNING, TuneSettings

MAIN_OPTIONS = ("budgets", "data", "candidates", "num_images", "self_guidance", "out")
_SETTINGS = TuneSettings()
_AS_IN_SAMPLE = Fields(
    also=ONE_OF_SEVERAL,
    repeatable=("budgets",),
)


def tune(
    run: Path,
    *,
    out: Path | None = None,
    data: str = "",
    data_root: Path | None = None,
    latents: tuple[Path, ...] = (),
    autoencoder: str = "",
    tuning: Annotated[TuneSettings, _AS_IN_SAMPLE] = _SETTINGS,
    line: str = "",
) -> Result:
    """Search the best plan of a model for a budget, and keep it beside the model.

    Many plans are tried on few images, then ever fewer plans on ever more images, by their kernel distance to the
    validation images. fpdm sample, fpdm evaluate and FPDMPipeline take the plan from sampling.json in the model's
    folder when they are given the budget; between two tuned budgets they interpolate, and say so.

    Args:
        run: Folder of the model, written by fpdm train, fpdm import or FPDMPipeline.save_pretrained.
        out: Folder for the pictures and the record of the search, and for what makes it go on after an interruption
            (default: tuning in the folder of the model).
        data: Path or name of the images, if they are no longer where the run recorded them, or if it recorded none.
        data_root: Folder with the files of a data set that is given by name.
        latents: Paths of the run's latent cache, if it is no longer where the run recorded it.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        tuning: What is searched, and how long.
        line: The command line, recorded with the search.
    """
    TUNING.check(out or run / "tuning", folders_of(run))
    from fpdm.tune import tune as module

    return module.tune(
        run,
        tuning,
        out,
        data=data,
        data_root=data_root,
        latents=latents,
        autoencoder=autoencoder,
        command=line,
    )
