"""Nothing is called clear that intervals do not bear out."""

from __future__ import annotations

from fpdm.drawing.ranking import Estimate, Ranking


def rivals(**models: tuple[float, float, float]) -> tuple[str, list[str]]:
    """The best of {model: (value, low, high)}, and those that do not clearly differ from it."""
    found = Ranking.of(140, [Estimate(name, *values) for name, values in models.items()])
    return found.best.name, [rival.name for rival in found.rivals]


def test_the_lowest_value_is_the_best() -> None:
    assert rivals(a=(2.16, 2.02, 2.32), b=(1.08, 0.96, 1.19), c=(3.66, 3.43, 3.87)) == ("b", [])


def test_overlap_is_no_clear_difference() -> None:
    assert rivals(a=(1.2, 1.1, 1.4), b=(1.1, 1.0, 1.3)) == ("b", ["a"])


def test_intervals_that_touch_overlap() -> None:
    assert rivals(a=(1.0, 0.9, 1.1), b=(1.2, 1.1, 1.3)) == ("a", ["b"])


def test_a_wide_interval_further_down_is_a_rival_too() -> None:
    assert rivals(a=(1.0, 0.9, 1.1), b=(1.2, 1.15, 1.25), c=(1.5, 1.0, 2.0)) == ("a", ["c"])


def test_an_interval_beside_its_value_makes_nothing_clear() -> None:
    assert rivals(a=(1.0, 1.5, 1.6), b=(1.2, 0.9, 1.3)) == ("a", ["b"])


def test_a_model_alone_has_no_rivals() -> None:
    assert rivals(a=(1.0, 0.9, 1.1)) == ("a", [])
