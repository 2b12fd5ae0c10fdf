"""Resamples and intervals against closed forms."""

import numpy as np
import pytest
import torch

from fpdm.evaluation.bootstrap import Bootstrap, Interval
from tests.evaluation.features import RNG


def test_the_interval_is_made_of_quantiles_around_the_value():
    """Deviations -10, -9, ..., 10 from a mean that is shifted: their 5 % and 95 % quantiles are -9 and 9."""
    drawn = torch.arange(-10.0, 11.0, dtype=torch.float64)[torch.from_numpy(RNG(0).permutation(21))] + 100
    found = Bootstrap(0, 21, 0.9).interval(5.0, drawn)
    assert (found.low, found.high) == pytest.approx((-4.0, 14.0))
    assert (found.value, found.level) == (5.0, 0.9)


def test_equal_resamples_leave_no_doubt():
    assert Bootstrap(0, 3, 0.5).interval(2.0, torch.full((3,), 7.0, dtype=torch.float64)) == Interval(
        2.0, 2.0, 2.0, 0.5
    )


def test_draws_are_a_function_of_the_seed_and_more_of_them_keep_the_first():
    draws = Bootstrap(3, 10, 0.9).draws(40)
    assert (draws.shape, draws.dtype) == ((10, 40), torch.int64)
    assert torch.equal(Bootstrap(3, 25, 0.5).draws(40)[:10], draws)
    assert not torch.equal(Bootstrap(4, 10, 0.9).draws(40), draws)
    assert len({tuple(row) for row in draws.tolist()}) == 10


def test_draws_are_even_and_with_repetition():
    """A resample of n holds an image Binomial(n, 1 / n) times: mean 1, variance 1 - 1 / n."""
    counts = np.stack([np.bincount(row, minlength=50) for row in Bootstrap(0, 400, 0.9).draws(50)])  # (resamples, N)
    assert counts.shape == (400, 50)
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.05)
    assert np.abs(counts.mean(0) - 1).max() < 5 / 400**0.5


def test_the_interval_of_a_mean_is_the_textbooks():
    x = torch.from_numpy(RNG(1).normal(size=400))  # (N,)
    bootstrap = Bootstrap(0, 2000, 0.95)
    found = bootstrap.interval(float(x.mean()), x[bootstrap.draws(400)].mean(1))
    error = 1.96 * float(x.std()) / 400**0.5
    assert (found.low, found.high) == pytest.approx((float(x.mean()) - error, float(x.mean()) + error), abs=0.1 * error)


@pytest.mark.parametrize(
    ("resamples", "level", "says"),
    [(1, 0.9, "resamples is 1"), (2, 0.0, "level is 0.0"), (2, 1.0, "level is 1.0"), (2, float("nan"), "level is nan")],
)
def test_settings_that_make_no_sense_are_refused(resamples, level, says):
    with pytest.raises(ValueError, match=says):
        Bootstrap(0, resamples, level)
