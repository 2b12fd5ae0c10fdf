"""Precision and recall against a plain version and cases with known answers."""

import numpy as np
import pytest

from fpdm.evaluation import blocks
from fpdm.evaluation.precision_recall import PrecisionRecall, precision_recall
from tests.evaluation.features import RNG, features
from tests.oracle.manifold import covered


@pytest.mark.parametrize("entries", [1, 100, 10_000])
@pytest.mark.parametrize(("k", "n", "m"), [(1, 60, 45), (3, 45, 60), (5, 7, 53)])
def test_it_is_its_definition_in_blocks_of_any_size(monkeypatch, entries, k, n, m):
    monkeypatch.setattr(blocks, "_ENTRIES", entries)
    rng = RNG(k)
    x, y = rng.normal(size=(n, 3)) * 0.7, rng.normal(size=(m, 3))
    found = precision_recall(features(x), features(y), k)
    assert (found.precision, found.recall) == pytest.approx((covered(x, y, k), covered(y, x, k)), rel=1e-12)
    assert found.precision != found.recall


def test_equal_sets_cover_each_other_and_distant_ones_not_at_all():
    x = RNG(4).normal(size=(30, 5))
    assert precision_recall(features(x), features(x)) == PrecisionRecall(1.0, 1.0)
    assert precision_recall(features(x), features(x + 100)) == PrecisionRecall(0.0, 0.0)


def test_few_good_images_are_precise_and_images_of_all_and_more_recall():
    rng = RNG(5)
    two = np.concatenate([rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 50])
    one = rng.normal(size=(100, 2)) * 0.5
    narrow = precision_recall(features(one), features(two))
    wide = precision_recall(features(two), features(one))
    assert narrow.precision > 0.9
    assert narrow.recall <= 0.5
    assert (wide.precision, wide.recall) == (narrow.recall, narrow.precision)


def test_copies_of_one_image_have_a_manifold_of_no_size():
    """A neighbour may be at distance 0; then only the same image lies within."""
    x = np.zeros((6, 2))
    y = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    assert precision_recall(features(x), features(y)) == PrecisionRecall(1.0, 0.2)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (-1, 5), (3, 3), (5, 5)])
def test_too_few_images_for_k_are_refused(k, n):
    x, y = features(RNG(0).normal(size=(n, 2))), features(RNG(1).normal(size=(10, 2)))
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match=f"k is {k} and a set has {n} images"):
            precision_recall(*pair, k)


def test_what_cannot_be_compared_is_refused():
    x = features(RNG(0).normal(size=(5, 3)))
    for other, message in (
        (features(x.values, "other"), "use one extractor"),
        (features(x.values[:, :2]), "(2 and 3|3 and 2) dim"),
    ):
        with pytest.raises(ValueError, match=message):
            precision_recall(x, other)
