"""Distances, a block of rows at a time."""

import numpy as np
import pytest
import torch

from fpdm.evaluation import blocks
from fpdm.evaluation.blocks import distance_blocks, rows_of_a_block
from tests.evaluation.features import RNG
from tests.oracle.manifold import distances


def test_a_block_has_64_mb_and_at_least_one_row():
    assert rows_of_a_block(1000) == 2**26 // 8 // 1000
    assert rows_of_a_block(2**30) == 1


@pytest.mark.parametrize(("entries", "sizes"), [(1, [1] * 7), (15, [3, 3, 1]), (10_000, [7])])
def test_blocks_together_are_all_distances_in_order(monkeypatch, entries, sizes):
    monkeypatch.setattr(blocks, "_ENTRIES", entries)
    x, y = RNG(0).normal(size=(7, 4)), RNG(1).normal(size=(5, 4))
    found = list(distance_blocks(torch.from_numpy(x), torch.from_numpy(y)))
    assert [len(block) for block in found] == sizes
    np.testing.assert_allclose(torch.cat(found), distances(x, y), rtol=1e-12)


def test_equal_rows_are_at_distance_zero_far_from_the_origin_too():
    x = torch.from_numpy(RNG(2).normal(size=(50, 30)) + 1000)  # (N, F)
    (found,) = distance_blocks(x, x)
    assert not found.diagonal().any()
