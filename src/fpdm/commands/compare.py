"""`fpdm compare`: which model is better at the same budgets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fpdm.commands.options import ONE_OF_SEVERAL, Fields, Result
from fpdm.compare.settings import COMPARISON, Settings
from fpdm.configuration import NonNegativeNumber
from fpdm.runs.layout import folders_of

MAIN_OPTIONS = ("out", "budgets", "minutes", "full", "num_images", "data")
_SETTINGS = Settings()
_AS_IN_SAMPLE = Fields(also=ONE_OF_SEVERAL)


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
    minutes: NonNegativeNumber = 0.0,
    full: bool = False,
    comparison: Annotated[Settings, _AS_IN_SAMPLE] = _SETTINGS,
    line: str = "",
) -> Result:
    """Compare runs at the same budgets, from the same noise, and report which is better.

    A first answer comes within two minutes: few images, and the plans that are stored with the models. Better ones
    follow, up to the full protocol, in which each run has its best plan; every stage writes the page again.

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
        minutes: Minutes after which it ends, with the best answer so far (default: when the full protocol is done).
        full: Do the full protocol at once, without earlier answers. It is what records are made with.
        comparison: What is compared in the full protocol. Each run uses the plan, among those allowed here, that does
            best on validation images.
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
    from fpdm.compare.answer import Compared
    from fpdm.compare.report import FILE as REPORT

    if minutes and full:
        raise ValueError(f"--minutes is {minutes:g} and --full is given; give only one")
    if redraw is not None:
        return Compared(module.redraw(redraw), redraw / REPORT)
    found = module.compare(
        runs,
        out,
        comparison,
        data=data,
        data_root=data_root,
        latents=latents,
        autoencoder=autoencoder,
        command=line,
        overwrite=overwrite,
        full=full,
        minutes=minutes,
    )
    return Compared(found, out / REPORT)
