"""Every distance against torch-fidelity's, on the same features."""

import pytest
import torch

from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance
from fpdm.evaluation.kid import kernel_distance
from fpdm.evaluation.precision_recall import precision_recall
from tests.evaluation.features import RNG, correlated, features

pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed: pip install torch-fidelity")


@pytest.fixture(scope="module")
def generated():
    return correlated(RNG(0), 700, 12, scale=0.3)


@pytest.fixture(scope="module")
def real():
    return correlated(RNG(1), 700, 12, scale=0.3)


def test_the_frechet_distance(generated, real):
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    theirs = [fid_features_to_statistics(torch.from_numpy(x)) for x in (generated, real)]
    ours = [GaussianStatistics.of(features(x)) for x in (generated, real)]
    expected = fid_statistics_to_metric(*theirs, verbose=False)[KEY_METRIC_FID]
    assert frechet_distance(*ours) == pytest.approx(expected, rel=1e-9)


def test_the_kernel_distance(generated, real):
    from torch_fidelity.metric_kid import kernel_mmd

    assert kernel_distance(features(generated), features(real)) == pytest.approx(kernel_mmd(generated, real), rel=1e-9)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall(k):
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    x, y = RNG(2).normal(size=(700, 6)) * 0.8, RNG(3).normal(size=(600, 6))
    found = precision_recall(features(x), features(y), k)
    expected = calculate_precision_recall_full(torch.from_numpy(x), torch.from_numpy(y), neighborhood=k)
    assert (found.precision, found.recall) == pytest.approx(expected)
    assert 0 < found.recall < found.precision < 1
