"""The IDX format of MNIST and its relatives: two zero bytes, a type, a rank, the sizes, then the values.

Not torchvision's reader, which takes no .gz, checks by assertions, and does not say which file is damaged or how.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

_UINT8 = 0x08


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
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}; get it again") from error
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
