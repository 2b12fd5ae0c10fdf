"""Nearest training images against a plain search."""

import numpy as np
import pytest
import torch

from fpdm.evaluation import blocks
from fpdm.evaluation.nearest import nearest
from tests.evaluation.features import RNG, correlated, features
from tests.oracle.manifold import distances


@pytest.mark.parametrize("entries", [1, 200, 10_000])
def test_it_is_a_plain_search_in_blocks_of_any_size(monkeypatch, entries):
    monkeypatch.setattr(blocks, "_ENTRIES", entries)
    rng = RNG(0)
    x, y = correlated(rng, 60, 5), correlated(rng, 70, 5)
    found = nearest(features(x), features(y))
    expected = distances(x, y)  # (N, M)
    assert found.indices.dtype == torch.int64
    np.testing.assert_array_equal(found.indices, expected.argmin(1))
    np.testing.assert_allclose(found.distances, expected.min(1), rtol=1e-12)


def test_a_training_image_is_itself_at_distance_zero():
    """Far from the origin too, where |x|^2 - 2 x.y + |y|^2 would leave something."""
    y = RNG(1).normal(size=(200, 30)) + 1000
    order = RNG(2).permutation(200)
    found = nearest(features(y[order]), features(y))
    np.testing.assert_array_equal(found.indices, order)
    assert not found.distances.any()


def test_what_cannot_be_compared_is_refused():
    x = features(RNG(0).normal(size=(5, 3)))
    for other, message in (
        (features(x.values, "other"), "use one extractor"),
        (features(x.values[:, :2]), "(2 and 3|3 and 2) dim"),
        (features(x.values[:0]), "expected at least one"),
    ):
        for pair in ((x, other), (other, x)):
            with pytest.raises(ValueError, match=message):
                nearest(*pair)
