"""Features are finite, of one form, and compared with those of the same extractor only."""

import numpy as np
import pytest
import torch

from fpdm.evaluation.features import Features, check_comparable
from tests.evaluation.features import features


def test_features_of_another_form_are_refused():
    with pytest.raises(ValueError, match=r"torch.float32 \(5, 3\)"):
        Features(torch.zeros(5, 3), "toy")
    with pytest.raises(ValueError, match=r"torch.float64 \(5,\)"):
        Features(torch.zeros(5, dtype=torch.float64), "toy")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    values = np.zeros((5, 3))
    values[2, 1] = bad
    with pytest.raises(ValueError, match="1 of 5 images hold nan or inf"):
        features(values)


def test_features_of_one_extractor_compare_however_many_images_they_are_of():
    assert features(np.zeros((5, 3))).dims == 3
    check_comparable(features(np.zeros((5, 3))), features(np.zeros((0, 3))))


def test_features_of_different_extractors_or_sizes_do_not_compare():
    a = features(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="features of 'toy' cannot be compared with those of 'other'"):
        check_comparable(a, features(np.zeros((5, 3)), "other"))
    with pytest.raises(ValueError, match="features of 3 and 2 dimensions"):
        check_comparable(a, features(np.zeros((5, 2))))
