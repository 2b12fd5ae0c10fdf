"""Large matrices between two sets of images, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Of a block, 64 MB. The system takes blocks of less than 32 MB from a heap, where small results between freed blocks
# keep them from being used again: then all blocks together take as much memory as the whole matrix.
_ENTRIES = 2**23


def rows_of_a_block(columns: int) -> int:
    """How many rows of a float64 matrix of so many columns make a block."""
    return max(1, _ENTRIES // columns)


def distance_blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """The Euclidean distances (n, M) from some rows of `x` (N, F) after the others to all rows of `y` (M, F)."""
    for rows in x.split(rows_of_a_block(len(y))):
        # Not by |x|^2 - 2 x.y + |y|^2, which leaves equal rows a distance of about 1e-8 of their length.
        yield torch.cdist(rows, y, compute_mode="donot_use_mm_for_euclid_dist")  # (n, M)
