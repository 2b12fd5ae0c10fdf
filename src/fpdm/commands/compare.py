"""`fpdm compare`: which model is better at the same budgets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fpdm.commands.options import Fields, Result
from fpdm.compare.settings import COMPARISON, Settings
from fpdm.runs.layout import folders_of

MAIN_OPTIONS = ("out", "budgets", "num_images", "samplers", "guidance", "data")
_SETTINGS = Settings()
_AS_IN_SAMPLE = Fields(
    also={
        "budgets": "budget",
        "samplers": "sampler",
        "grids": "grid",
        "allocations": "allocation",
        "weak_depths": "weak-depth",
    }
)


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """With --redraw, neither runs nor --out are needed."""
    return {"runs": (), "out": given["redraw"]} if "redraw" in given else {}


def compare(
    runs: tuple[Path, ...],
    *,
    out: Path,
    data: str = "",
    data_root: Path | None = None,
    latents: tuple[Path, ...] = (),
    autoencoder: str = "",
    redraw: Path | None = None,
    overwrite: bool = False,
    comparison: Annotated[Settings, _AS_IN_SAMPLE] = _SETTINGS,
    line: str = "",
) -> Result:
    """Compare runs at the same budgets, from the same noise, and report which is better.

    Args:
        runs: Folders written by fpdm train, all trained on the same data.
        out: Folder for the report, its pictures and compare.json.
        data: Path of the images, if they are no longer where the runs recorded them.
        data_root: Folder with the files of a data set that is given by name.
        latents: Paths of latent caches that are no longer where the runs recorded them. A run takes the one that it was
            trained on.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the runs recorded it.
        redraw: Folder of a finished comparison, whose report is written again from its compare.json and pictures. Needs
            no runs.
        overwrite: Replace the report in the folder if it is one of other runs or settings; what is measured already and
            still fits is used.
        comparison: What is compared. Each run uses the plan, among those allowed here, that does best on validation
            images.
        line: The command line, recorded in the report.
    """
    if redraw is not None and (runs or out != redraw):
        raise ValueError(f"--redraw {redraw} writes the report in {redraw} again; leave out the runs and --out")
    for place, run in enumerate(runs):
        if run.resolve() in {other.resolve() for other in runs[:place]}:
            raise ValueError(f"the run {run} is given twice; expected runs in different folders")
    COMPARISON.check(out)
    for run in runs:
        COMPARISON.check(out, folders_of(run))
    from fpdm.compare import comparison as module

    if redraw is not None:
        return module.redraw(redraw)
    return module.compare(
        runs,
        out,
        comparison,
        data=data,
        data_root=data_root,
        latents=latents,
        autoencoder=autoencoder,
        command=line,
        overwrite=overwrite,
    )
