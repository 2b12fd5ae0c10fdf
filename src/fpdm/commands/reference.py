"""`fpdm reference`: statistics of real images, to evaluate against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from fpdm.commands.folders import writable
from fpdm.commands.options import Command
from fpdm.fid.reference import MadeReference, make_reference
from fpdm.fid.settings import ReferenceSettings

_SETTINGS = ReferenceSettings()


@dataclass(frozen=True, kw_only=True)
class Reference(Command):
    """Make reference statistics from images, to evaluate runs against.

    With accelerate launch or torchrun, several processes share the work, and the statistics stay the same.

    Attributes:
        images: A folder of images of any size, an .npz with arr_0 (uint8, N x H x W x 3), digits or fashion-mnist.
        out: The file to write (.npz), in ADM's form (mu, sigma); the same command goes on if it was interrupted.
        data_root: Folder with the own files of a data set that comes by name.
        settings: Which of the images, and by what features.
    """

    images: Positional[str]
    out: Path
    data_root: Path | None = None
    settings: ReferenceSettings = _SETTINGS

    def execute(self) -> MadeReference | None:
        """Make them."""
        writable(self.out.parent)
        return make_reference(self.images, self.out, self.settings, root=self.data_root)
