"""Checks of folders, before anything long begins."""

from __future__ import annotations

import os
from pathlib import Path


def writable(folder: Path) -> None:
    """Check that the folder can be made and written to, without making it.

    Raises:
        ValueError: It cannot.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"--out {folder}: {nearest} is a file; expected a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder}: {nearest} cannot be written to")


def apart(folder: Path, images: Path) -> None:
    """Check that the folder does not lie in the folder of images, where what it gets would be taken for images.

    Raises:
        ValueError: It does.
    """
    if folder.resolve().is_relative_to(images.resolve()):
        raise ValueError(f"--out {folder} lies in the image folder {images}; choose a folder outside of it")
