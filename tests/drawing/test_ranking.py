"""The sentences against cases written by hand: nothing is called clear that intervals do not bear out."""

from __future__ import annotations

from fpdm.drawing.ranking import Estimate, Ranking, verdict


def sentences(*rankings: tuple[int, dict[str, tuple[float, float, float]]]) -> list[str]:
    """The verdict over (budget, {model: (value, low, high)})."""
    made = [Ranking.of(budget, [Estimate(name, *v) for name, v in models.items()]) for budget, models in rankings]
    return verdict(made, quantity="Fréchet distance")


def test_a_clear_lead_names_the_next() -> None:
    assert sentences((140, {"fpdm": (2.16, 2.02, 2.32), "dit-4": (1.08, 0.96, 1.19), "dit": (3.66, 3.43, 3.87)})) == [
        "At 140 block passes dit-4 has the lowest Fréchet distance, 1.08 (0.96 to 1.19).",
        "Its interval lies below all others; next is fpdm with 2.16 (2.02 to 2.32).",
    ]


def test_overlap_is_no_clear_difference() -> None:
    assert sentences((140, {"fpdm": (1.2, 1.1, 1.4), "dit": (1.1, 1.0, 1.3)})) == [
        "At 140 block passes dit has the lowest Fréchet distance, 1.10 (1.00 to 1.30).",
        "There is no clear difference to fpdm: the intervals overlap.",
    ]


def test_intervals_that_touch_overlap() -> None:
    assert "no clear difference to b" in sentences((1, {"a": (1.0, 0.9, 1.1), "b": (1.2, 1.1, 1.3)}))[1]


def test_a_wide_interval_further_down_is_a_rival_too() -> None:
    found = sentences((140, {"a": (1.0, 0.9, 1.1), "b": (1.2, 1.15, 1.25), "c": (1.5, 1.0, 2.0)}))
    assert found[1] == "There is no clear difference to c: the intervals overlap."


def test_an_interval_beside_its_value_makes_nothing_clear() -> None:
    assert "no clear difference to b" in sentences((1, {"a": (1.0, 1.5, 1.6), "b": (1.2, 0.9, 1.3)}))[1]


def test_like_budgets_share_a_sentence() -> None:
    clear = {"a": (1.0, 0.9, 1.1), "b": (2.0, 1.9, 2.1)}
    assert sentences((140, clear), (1280, clear)) == [
        "At 140 and 1,280 block passes a has the lowest Fréchet distance, 1.00 (0.90 to 1.10) and 1.00 (0.90 to 1.10).",
        "Everywhere its interval lies below all others; next is b with 2.00 (1.90 to 2.10) and 2.00 (1.90 to 2.10).",
    ]


def test_budgets_that_differ_are_told_apart() -> None:
    assert sentences(
        (35, {"a": (2.0, 1.9, 2.1), "b": (3.0, 2.9, 3.1)}),
        (70, {"a": (2.0, 1.9, 2.1), "b": (1.0, 0.9, 1.1)}),
        (140, {"a": (1.0, 0.8, 1.1), "b": (0.9, 0.8, 1.0)}),
    ) == [
        "At 35 block passes a has the lowest Fréchet distance, 2.00 (1.90 to 2.10); "
        "at 70 and 140 it is b, with 1.00 (0.90 to 1.10) and 0.900 (0.800 to 1.000).",
        "At 35 and 70 its interval lies below all others; next is b at 35 with 3.00 (2.90 to 3.10); "
        "a at 70 with 2.00 (1.90 to 2.10).",
        "There is no clear difference to a at 140: the intervals overlap.",
    ]


def test_many_rivals_are_counted() -> None:
    found = sentences((140, {name: (1.0 + i / 100, 0.5, 1.5) for i, name in enumerate("abcde")}))
    assert found[1] == "There is no clear difference to 4 other models: the intervals overlap."


def test_one_model_alone_is_not_the_lowest_of_anything() -> None:
    assert sentences((140, {"a": (1.0, 0.9, 1.1)}), (280, {"a": (0.5, 0.4, 0.6)})) == [
        "At 140 and 280 block passes a has a Fréchet distance of 1.00 (0.90 to 1.10) and 0.500 (0.400 to 0.600)."
    ]


def test_a_budget_with_one_model_is_set_apart() -> None:
    found = sentences((35, {"a": (1.0, 0.9, 1.1)}), (70, {"a": (1.0, 0.9, 1.1), "b": (2.0, 1.9, 2.1)}))
    assert found[0].startswith("At 70 block passes a has the lowest")
    assert found[1].startswith("Its interval lies below all others")
    assert found[2] == "At 35 only a was measured, with 1.00 (0.90 to 1.10)."


def test_long_names_are_shortened() -> None:
    long = {"x" * 300: (1.0, 0.9, 1.1), "y" * 300: (2.0, 1.9, 2.1)}
    assert all(len(sentence) < 200 for sentence in sentences((140, long)))
