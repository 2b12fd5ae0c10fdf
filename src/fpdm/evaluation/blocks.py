"""Large matrices between two sets of images, computed in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# 64 MB per block. Allocations below 32 MB come from a heap, where small results between freed blocks keep them from
# being reused, so that all blocks together would take as much memory as the whole matrix.
_ENTRIES = 2**23


def rows_of_a_block(columns: int) -> int:
    """Return the number of rows in a block of a float64 matrix with this many columns."""
    return max(1, _ENTRIES // columns)


def distance_blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Yield the Euclidean distances (n, M) from blocks of rows of `x` (N, F) to all rows of `y` (M, F)."""
    for rows in x.split(rows_of_a_block(len(y))):
        # Not |x|^2 - 2 x.y + |y|^2, which gives equal rows a distance of about 1e-8 of their length.
        yield torch.cdist(rows, y, compute_mode="donot_use_mm_for_euclid_dist")  # (n, M)
