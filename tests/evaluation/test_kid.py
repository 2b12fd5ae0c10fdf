"""The kernel distance against its definition and many draws; its interval against its definition."""

import numpy as np
import pytest
import torch

from fpdm.evaluation import blocks
from fpdm.evaluation.kid import kernel_distance, kernel_interval
from fpdm.randomness import Stream, generator
from tests.evaluation.features import RNG, correlated, features
from tests.oracle import kernel as oracle


@pytest.mark.parametrize("entries", [1, 40, 70, 10_000])
@pytest.mark.parametrize(("n", "m", "dims"), [(2, 2, 1), (7, 15, 3), (16, 9, 8)])
def test_it_is_its_definition_in_blocks_of_any_size(monkeypatch, entries, n, m, dims):
    monkeypatch.setattr(blocks, "_ENTRIES", entries)
    rng = RNG(dims)
    x, y = correlated(rng, n, dims), correlated(rng, m, dims)
    expected = oracle.kernel_distance(x, y)
    assert kernel_distance(features(x), features(y)) == pytest.approx(expected, rel=1e-10)
    assert kernel_distance(features(y), features(x)) == pytest.approx(expected, rel=1e-10)


def test_numbers_of_images_do_not_bias_it():
    """Sets of one distribution have 0 in the mean, few images or many; of two, what very many images have."""
    rng = RNG(1)
    few = [kernel_distance(features(rng.normal(size=(5, 3))), features(rng.normal(size=(8, 3)))) for _ in range(500)]
    assert abs(np.mean(few)) < 4 * np.std(few) / 500**0.5
    assert min(few) < 0
    reference = features(rng.normal(size=(100, 3)))
    far = [kernel_distance(features(rng.normal(size=(5, 3)) + 1), reference) for _ in range(500)]
    many = kernel_distance(features(rng.normal(size=(5000, 3)) + 1), reference)
    assert np.mean(far) == pytest.approx(many, abs=4 * np.std(far) / 500**0.5)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_the_interval_is_its_definition(n):
    """Above all, an image that a resample holds twice is no pair."""
    rng = RNG(n)
    x, y = correlated(rng, n, 4), correlated(rng, 6, 4)
    found = kernel_interval(features(x), features(y), seed=5, resamples=30, level=0.9)
    draws = [generator(5, Stream.RESAMPLE, index=i).integers(n, size=n) for i in range(30)]
    drawn = np.array([oracle.resampled_distance(x, y, chosen) for chosen in draws])
    value = oracle.kernel_distance(x, y)
    low, high = value + np.quantile(drawn - drawn.mean(), [0.05, 0.95])
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), rel=1e-9)
    assert found.level == 0.9


@pytest.mark.parametrize(("shift", "widest"), [(0.4, 1.3), (0.0, 2.0)])
def test_the_interval_holds_the_mean_over_sets_of_as_many_images(shift, widest):
    """Against what it stands for: many independent sets of n images. Near zero it may be too wide, and only there."""
    dims, n, sets = 4, 100, 60
    rng = RNG(3)
    reference = features(rng.normal(size=(500, dims)))
    draws = [features(rng.normal(size=(n, dims)) + shift) for _ in range(sets)]
    intervals = [kernel_interval(x, reference, seed=i, resamples=60) for i, x in enumerate(draws)]
    values = np.array([interval.value for interval in intervals])
    covered = np.mean([interval.low <= values.mean() <= interval.high for interval in intervals])
    assert covered >= 0.88  # 95 % are wanted; the distribution has a tail to one side
    width = np.mean([interval.high - interval.low for interval in intervals])
    assert 0.75 < width / (2 * 1.96 * values.std()) < widest


def test_the_interval_is_a_function_of_the_seed_and_may_go_below_zero():
    x, y = features(RNG(6).normal(size=(40, 3))), features(RNG(7).normal(size=(50, 3)))
    first = kernel_interval(x, y, seed=7)
    torch.manual_seed(123)
    assert kernel_interval(x, y, seed=7) == first
    assert kernel_interval(x, y, seed=8) != first
    assert first.value == pytest.approx(kernel_distance(x, y))
    assert first.low < 0 < first.high


@pytest.mark.parametrize("measure", [kernel_distance, lambda x, y: kernel_interval(x, y, seed=0)])
def test_what_cannot_be_compared_is_refused(measure):
    good = features(RNG(0).normal(size=(5, 3)))
    for bad, message in (
        (features(good.values, "other"), "use one extractor"),
        (features(good.values[:, :2]), "(2 and 3|3 and 2) dim"),
        (features(good.values[:1]), "has 1 images; expected 2 or more"),
        (features(good.values[:0]), "has 0 images; expected 2 or more"),
        (features(good.values * 1e150), r"as large as \d.*e\+150"),
    ):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match=message):
                measure(*pair)


@pytest.mark.parametrize("changes", [{"resamples": 1}, {"level": 0.0}, {"level": 1.0}, {"level": float("nan")}])
def test_an_interval_that_makes_no_sense_is_refused(changes):
    ((name, value),) = changes.items()
    x = features(RNG(0).normal(size=(5, 3)))
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        kernel_interval(x, x, seed=0, **changes)
