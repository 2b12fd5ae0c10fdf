"""The Fréchet distance against closed forms and a general matrix square root; its interval against many draws."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance, frechet_interval
from tests.evaluation.features import RNG, correlated, features
from tests.oracle.frechet import frechet


def gaussian(mean, covariance, n=10_000):
    mean, covariance = (torch.as_tensor(x, dtype=torch.float64) for x in (mean, covariance))
    return GaussianStatistics(mean, covariance, n, "toy")


def orthogonal(rng, dims):
    return np.linalg.qr(rng.normal(size=(dims, dims)))[0]


@pytest.mark.parametrize("dims", [1, 2, 5, 32, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_it_equals_a_general_matrix_square_root(dims, scale):
    rng = RNG(dims)
    a, b = correlated(rng, 500, dims), correlated(rng, 300, dims, scale)
    of_a, of_b = (GaussianStatistics.of(features(x)) for x in (a, b))
    expected = frechet(a, b)
    assert frechet_distance(of_a, of_b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(of_b, of_a) == pytest.approx(expected, rel=1e-8)


def test_mean_and_covariance_are_the_sample_s():
    values = correlated(RNG(0), 50, 4)
    found = GaussianStatistics.of(features(values))
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(values, rowvar=False), rtol=1e-12)
    assert (found.n, found.extractor) == (50, "toy")


def test_means_alone_differ():
    S = np.cov(correlated(RNG(0), 50, 3), rowvar=False)
    assert frechet_distance(gaussian([1, 2, 3], S), gaussian([1, 0, 7], S)) == pytest.approx(0 + 4 + 16, rel=1e-9)


@pytest.mark.parametrize("rotated", [False, True])
def test_commuting_covariances_have_a_closed_form(rotated):
    # tr(S_a + S_b - 2 (S_a S_b)^{1/2}) is the sum of squared differences of standard deviations.
    Q = orthogonal(RNG(1), 4) if rotated else np.eye(4)
    s_a, s_b = np.array([3.0, 1.0, 0.5, 2.0]), np.array([1.0, 1.0, 4.0, 0.1])
    a, b = (gaussian(np.zeros(4), Q * s**2 @ Q.T) for s in (s_a, s_b))
    assert frechet_distance(a, b) == pytest.approx(4 + 0 + 12.25 + 3.61, rel=1e-9)


def test_rotating_and_shifting_both_sets_changes_nothing():
    rng = RNG(2)
    a, b, Q, shift = correlated(rng, 200, 6), correlated(rng, 200, 6), orthogonal(rng, 6), rng.normal(size=6)
    before, after = (
        frechet_distance(*(GaussianStatistics.of(features(x)) for x in pair))
        for pair in ((a, b), (a @ Q + shift, b @ Q + shift))
    )
    assert after == pytest.approx(before, rel=1e-9)


def test_identical_sets_are_at_zero():
    for values in (correlated(RNG(3), 200, 16), np.ones((30, 4)), correlated(RNG(3), 200, 3) @ np.eye(3, 16)):
        a = GaussianStatistics.of(features(values))
        assert 0.0 <= frechet_distance(a, a) < 1e-6 * max(1.0, float(a.covariance.trace()))


def test_no_more_images_than_dimensions_is_finite_right_and_warned_of():
    # 9 images span 8 of 32 dimensions; the other set spans 8 others, so that no cross term is left.
    rng = RNG(4)
    Q, a, b = orthogonal(rng, 32), np.zeros((9, 32)), np.zeros((9, 32))
    a[:, :8], b[:, 8:16] = rng.normal(size=(9, 8)), rng.normal(size=(9, 8))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    with pytest.warns(UserWarning, match="9 images for features of 32 dimensions"):
        found = frechet_distance(*(GaussianStatistics.of(features(x @ Q)) for x in (a, b)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_enough_images_are_not_warned_of():
    a = GaussianStatistics.of(features(correlated(RNG(0), 5, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(a, a)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_are_refused(n):
    with pytest.raises(ValueError, match=f"{n} image.*2 images or more"):
        GaussianStatistics.of(features(np.zeros((n, 3))))


def test_features_too_large_to_square_are_refused():
    with pytest.raises(ValueError, match=r"as large as 1e\+200"):
        GaussianStatistics.of(features([[1e200], [0.0]]))


def test_features_of_different_extractors_or_sizes_do_not_compare():
    values = correlated(RNG(0), 20, 3)
    a = GaussianStatistics.of(features(values))
    for other, message in (
        (features(values, "other"), "'other'"),
        (features(values[:, :2]), "(2 and 3|3 and 2) dim"),
    ):
        with pytest.raises(ValueError, match=message):
            frechet_distance(a, GaussianStatistics.of(other))
        with pytest.raises(ValueError, match=message):
            frechet_interval(other, a, seed=0)


def test_the_interval_holds_the_mean_over_sets_of_as_many_images():
    """Against what it stands for: many independent sets of n images, from a known Gaussian."""
    dims, n, sets = 8, 150, 60
    reference = gaussian(np.zeros(dims), np.eye(dims))
    rng = RNG(5)
    draws = [features(rng.normal(size=(n, dims)) * 1.3 + 0.2) for _ in range(sets)]
    values = np.array([frechet_distance(GaussianStatistics.of(x), reference) for x in draws])
    intervals = [frechet_interval(x, reference, seed=i, resamples=60) for i, x in enumerate(draws)]
    assert [interval.value for interval in intervals] == pytest.approx(values)
    assert all(interval.low <= interval.value <= interval.high for interval in intervals)
    covered = np.mean([interval.low <= values.mean() <= interval.high for interval in intervals])
    assert covered >= 0.85  # 95 % are wanted; a bootstrap of 150 images gives a little less
    width = np.mean([interval.high - interval.low for interval in intervals])
    assert width == pytest.approx(2 * 1.96 * values.std(), rel=0.3)


def test_the_interval_is_a_function_of_the_seed_and_grows_with_its_level():
    x, reference = features(correlated(RNG(6), 60, 3)), gaussian(np.zeros(3), np.eye(3))
    first = frechet_interval(x, reference, seed=7)
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    assert frechet_interval(x, reference, seed=7) == first
    assert frechet_interval(x, reference, seed=8) != first
    wide, narrow = (frechet_interval(x, reference, seed=7, level=level) for level in (0.99, 0.5))
    assert wide.low < first.low < narrow.low < first.value < narrow.high < first.high < wide.high


def test_the_interval_never_goes_below_zero():
    x = features(RNG(8).normal(size=(40, 2)))
    assert frechet_interval(x, GaussianStatistics.of(x), seed=0).low == 0.0


def test_the_interval_warns_once_of_too_few_images():
    x, reference = features(correlated(RNG(9), 8, 8)), gaussian(np.zeros(8), np.eye(8))
    with pytest.warns(UserWarning, match="8 images") as caught:
        frechet_interval(x, reference, seed=0)
    assert len(caught) == 1


@pytest.mark.parametrize("changes", [{"resamples": 1}, {"level": 0.0}, {"level": 1.0}, {"level": float("nan")}])
def test_an_interval_that_makes_no_sense_is_refused(changes):
    (name, value) = next(iter(changes.items()))
    x = features(correlated(RNG(0), 20, 3))
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        frechet_interval(x, GaussianStatistics.of(x), seed=0, **changes)


@pytest.mark.parametrize("size", [1, 7, 50, 200])
def test_statistics_of_parts_are_those_of_the_whole(size):
    x = correlated(RNG(5), 120, 4) + 1e6  # far from 0, where a sum of squares would lose its digits
    parts = [features(x[start : start + size]) for start in range(0, 120, size)]
    found = GaussianStatistics.of_parts(iter([*parts, features(x[:0])]))
    assert found.n == 120
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-7)


def test_parts_of_other_extractors_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        GaussianStatistics.of_parts([features(np.eye(3)), features(np.eye(3), "other")])


def test_an_unknown_number_of_images_brings_no_warning(recwarn):
    known = GaussianStatistics.of(features(correlated(RNG(6), 30, 3)))
    assert frechet_distance(known, replace(known, n=None)) == pytest.approx(0.0, abs=1e-9)
    assert not recwarn
