"""`fpdm reference`: statistics of real images, for `fpdm evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fpdm.commands.options import Fields, Result
from fpdm.fid.settings import ReferenceSettings
from fpdm.outputs import check_file

MAIN_OPTIONS = ("out", "size", "channels", "split", "extractor", "overwrite")
_SETTINGS = ReferenceSettings()


def reference(
    images: str,
    *,
    out: Path,
    data_root: Path | None = None,
    overwrite: bool = False,
    statistics: Annotated[ReferenceSettings, Fields()] = _SETTINGS,
) -> Result | None:
    """Compute reference statistics from images, for fpdm evaluate.

    Under accelerate launch or torchrun, the processes share the work; the statistics do not depend on their number.

    Args:
        images: Folder of images of any size; an .npz file with arr_0 (uint8, N x H x W x 3); digits or fashion-mnist.
        out: File to write (.npz), in ADM's layout (mu, sigma). The same command continues an interrupted one.
        data_root: Folder with the files of a data set that is given by name.
        overwrite: Replace the file if it exists and is not the result of the same command.
        statistics: Which images are used, and which features.
    """
    check_file(out, ours=True)  # whose it is is known later
    from fpdm.fid.reference import make_reference

    return make_reference(images, out, statistics, root=data_root, overwrite=overwrite)
