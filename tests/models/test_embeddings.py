"""Patches, positions, timesteps and labels against the formulas of tests/oracle/network.py."""

from __future__ import annotations

import math

import pytest
import torch

from fpdm.models.embeddings import LabelEmbedding, PatchEmbedding, TimestepEmbedding, sincos_positions, sinusoids
from tests.oracle import network


def test_patches_are_cut_in_reading_order_and_projected_linearly() -> None:
    embedding = PatchEmbedding(3, 2, 8).double()
    torch.nn.init.normal_(embedding.proj.bias)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)  # (B, C, H, W)
    kernel = embedding.proj.weight.reshape(8, -1)  # (D, C p p)
    want = network.patches(x, 2) @ kernel.T + embedding.proj.bias  # (B, T, D)
    torch.testing.assert_close(embedding(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_timesteps_are_embedded_by_256_sinusoids_and_an_mlp(shift: float) -> None:
    embedding = TimestepEmbedding(12, shift).double()
    weights = network.random_weights(
        {k: v.shape for k, v in embedding.state_dict().items()}, seed=0, dtype=torch.float64
    )
    embedding.load_state_dict(weights)
    t = torch.tensor([0.0, 0.5, 999.0])  # (B,)
    hidden = network.silu(network.linear(network.sinusoids(t, shift).double(), weights, "mlp.0"))  # (B, D)
    torch.testing.assert_close(embedding(t), network.linear(hidden, weights, "mlp.2"), rtol=1e-5, atol=1e-5)


def test_labels_are_rows_and_the_last_row_is_no_class() -> None:
    embedding = LabelEmbedding(3, 8)
    table = embedding.embedding_table.weight  # (K + 1, D)
    assert table.shape == (4, 8)
    assert torch.equal(embedding(torch.tensor([3, 0])), table[[3, 0]])
    assert len(LabelEmbedding(0, 8).embedding_table.weight) == 1


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_sinusoids_equal_their_formula(shift: float) -> None:
    t = torch.tensor([0.0, 0.5, 1.0, 37.0, 999.0])  # (B,)
    got = sinusoids(t, 8, shift)  # (B, 8)
    for row, time in zip(got.tolist(), t.tolist(), strict=True):
        angles = [time * 10000 ** (-i / (4 - shift)) for i in range(4)]
        want = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        assert row == pytest.approx(want, abs=1e-4)  # float32's width near 999


def test_positions_equal_their_formula() -> None:
    torch.testing.assert_close(sincos_positions(24, 5), network.positions(24, 5), rtol=0, atol=1e-7)
    # In the first half of the width, moving down a row changes nothing.
    grid = sincos_positions(24, 5).view(5, 5, 24)  # (rows, columns, D)
    assert torch.equal(grid[0, :, :12], grid[4, :, :12])
    assert not torch.equal(grid[0, :, 12:], grid[4, :, 12:])
