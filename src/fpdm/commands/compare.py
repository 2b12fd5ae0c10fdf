"""`fpdm compare`: which model is better at the same budgets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from fpdm.commands.folders import writable
from fpdm.commands.options import Command, Group
from fpdm.compare.comparison import compare
from fpdm.compare.results import Comparison
from fpdm.compare.settings import Settings

_SETTINGS = Settings()
_AS_IN_SAMPLE = {"budgets": "budget", "samplers": "sampler", "grids": "grid", "allocations": "allocation"}


@dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Sample several runs at the same budgets from the same noise, and measure which is better.

    Attributes:
        runs: Folders made by fpdm train, on the same data.
        out: Folder for the report, its pictures and figures.
        data: Where the images are now, if they have moved since.
        data_root: Folder with the own files of a data set that comes by name.
        autoencoder: Where the autoencoder of the models' latents is now, if it has moved since: a name on the hub, or a
            folder.
        comparison: Each run takes the plan that is best on validation images, of those that can be chosen.
    """

    runs: Positional[tuple[Path, ...]]
    out: Path
    data: str = ""
    data_root: Path | None = None
    autoencoder: str = ""
    comparison: Annotated[Settings, Group(also=_AS_IN_SAMPLE)] = _SETTINGS

    def execute(self) -> Comparison:
        """Compare them."""
        writable(self.out)
        return compare(
            self.runs,
            self.out,
            self.comparison,
            data=self.data,
            data_root=self.data_root,
            autoencoder=self.autoencoder,
            command=self.line,
        )
