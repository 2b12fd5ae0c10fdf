from __future__ import annotations

import math

import numpy as np
import pytest

from fpdm.drawing.numbers import MISSING, Unit, decimals, duration, fixed, short, smoothed, unit


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([1.0, 2.0, 3.0], 2),  # 1.00
        ([15.3, 23.4, 10.1], 1),  # 15.3
        ([153.0, 964.0], 0),
        ([0.05, 3.66, 1.08], 3),  # the smallest keeps two digits: 0.050
        ([0.00001, 3.0], 4),  # no more than four
        ([0.0, 0.0], 0),
        ([], 0),
        ([math.nan, 0.25], 3),
        ([-0.25], 3),
    ],
)
def test_decimals_of_a_column(values: list[float], places: int) -> None:
    assert decimals(values) == places


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (1234567.0, 0, "1,234,567"),
        (-0.0214, 2, "−0.02"),
        (-0.001, 2, "0.00"),
        (math.nan, 2, MISSING),
        (math.inf, 2, MISSING),
        (2.0, 1, "2.0"),
    ],
)
def test_numbers_are_written_out(value: float, places: int, text: str) -> None:
    assert fixed(value, places) == text


@pytest.mark.parametrize(("value", "text"), [(0.0512, "0.0512"), (1.234, "1.23"), (12.34, "12.3"), (4948.0, "4,948")])
def test_short_numbers_have_three_digits(value: float, text: str) -> None:
    assert short(value) == text


def test_units_follow_the_largest_value() -> None:
    assert unit([2.1e6, 18.2e6], "B") == Unit(1e6, "MB")
    assert unit([999.0], "MACs") == Unit(1.0, "MACs")
    assert unit([1000.0], "MACs") == Unit(1e3, "kMACs")
    assert unit([0.0042, 0.016], "s") == Unit(1e-3, "ms")
    assert unit([], "s") == Unit(1.0, "s")
    assert unit([0.0], "s") == Unit(1.0, "s")
    assert duration([90.0]).name == "s"
    assert duration([90.0, 3600.0]) == Unit(60.0, "min")
    assert duration([36000.0]) == Unit(3600.0, "h")


def test_smoothing_keeps_lines_straight_and_evens_out_the_rest() -> None:
    line = np.linspace(3.0, 1.0, 200)  # (N,)
    np.testing.assert_allclose(smoothed(line), line, rtol=1e-12)
    noise = np.random.default_rng(0).standard_normal(1000)  # (N,)
    assert smoothed(noise)[50:-50].std() < 2 * noise.std() / np.sqrt(41)
    np.testing.assert_allclose(smoothed(noise)[500], noise[480:521].mean())
    assert smoothed(np.empty(0)).shape == (0,)
