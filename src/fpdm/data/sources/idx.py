"""The IDX format of MNIST and its relatives: two zero bytes, a type, a rank, the sizes, then the values.

Not torchvision's reader, which takes no .gz, checks by assertions, and does not say which file is damaged or how.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from fpdm.files import open_regular

_UINT8 = 0x08
_MOST = 2**28  # bytes: four times those of 60,000 images of 32 x 32, so that what a .gz becomes stays small


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Read an IDX file of bytes, compressed by gzip if its name ends in .gz.

    Args:
        path: The file.
        rank: Number of dimensions that it must have: 3 for images, 1 for labels.

    Returns:
        A uint8 array with `rank` dimensions.

    Raises:
        ValueError: The file cannot be read, is of another format, or is shorter or longer than its header says.
    """
    try:
        with open_regular(path) as stream:
            unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if path.suffix == ".gz" else stream
            content = unpacked.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}; get it again") from error
    if len(content) > _MOST:
        raise ValueError(f"{path} holds more than {_MOST} bytes, which no file of MNIST's does; get it again")
    header = 4 + 4 * rank
    if len(content) < header:
        raise ValueError(
            f"{path} is truncated: {len(content)} bytes, where its header alone has {header}; get it again"
        )
    magic = bytes((0, 0, _UINT8, rank))
    if content[:4] != magic:
        raise ValueError(
            f"{path} starts with {content[:4].hex(' ')}; expected {magic.hex(' ')} (IDX, bytes, {rank} dimensions)"
        )
    sizes = struct.unpack(f">{rank}I", content[4:header])
    if len(content) - header != math.prod(sizes):
        word = "truncated" if len(content) - header < math.prod(sizes) else "too long"
        raise ValueError(
            f"{path} is {word}: {len(content) - header} bytes of values, where its header says "
            f"{' x '.join(map(str, sizes))} = {math.prod(sizes)}; get it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(sizes)
