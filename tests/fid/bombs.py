"""Small archives that say they unpack to large arrays."""

from __future__ import annotations

import io
import math
import zipfile
import zlib

import numpy as np


def add_zeros(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], descr: str) -> None:
    """Add an array of zeros with the sizes that it has in an archive, and only the first million of its bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    whole = len(header.getvalue()) + math.prod(shape) * np.dtype(descr).itemsize
    content = header.getvalue() + bytes(min(whole, 2**20))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    info = zipfile.ZipInfo(name)
    archive.writestr(info, packed)
    info.compress_type, info.file_size, info.CRC = zipfile.ZIP_DEFLATED, whole, zlib.crc32(content)
