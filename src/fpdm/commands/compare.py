"""`fpdm compare`: which model is better at the same budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fpdm.commands.folders import writable
from fpdm.commands.options import Fields, Result
from fpdm.compare.settings import Settings

_SETTINGS = Settings()
_AS_IN_SAMPLE = Fields(also={"budgets": "budget", "samplers": "sampler", "grids": "grid", "allocations": "allocation"})


def compare(
    runs: tuple[Path, ...],
    *,
    out: Path,
    data: str = "",
    data_root: Path | None = None,
    autoencoder: str = "",
    comparison: Annotated[Settings, _AS_IN_SAMPLE] = _SETTINGS,
    line: str = "",
) -> Result:
    """Compare runs at the same budgets, from the same noise, and report which is better.

    Args:
        runs: Folders written by fpdm train, all trained on the same data.
        out: Folder for the report, its pictures and compare.json.
        data: Path of the images, if they are no longer where the runs recorded them.
        data_root: Folder with the files of a data set that is given by name.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the runs recorded it.
        comparison: What is compared. Each run uses the plan, among those allowed here, that does best on validation
            images.
        line: The command line, recorded in the report.
    """
    writable(out)
    from fpdm.compare import comparison as module

    return module.compare(runs, out, comparison, data=data, data_root=data_root, autoencoder=autoencoder, command=line)
