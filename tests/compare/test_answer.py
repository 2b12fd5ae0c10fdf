"""What a comparison says in words: its answer, how far it has come, and when not to believe it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.compare.answer import Compared, answer, cautions, headline, stage_in_words
from fpdm.compare.results import Comparison, StageResult
from tests.compare.made import comparison


def made(distances: dict[str, float], *, floor: float = 0.3, images: int = 500) -> Comparison:
    """A comparison at one budget with these distances, by model."""
    found = comparison(len(distances), (140,), ("ddim",))
    names = dict(zip([one.model for one in found.models], distances, strict=True))
    rows = tuple(
        replace(
            row, model=names[row.model], distance=value, distance_low=0.9 * value, distance_high=1.1 * value,
            distance_floor=floor, floor_images=images, images=images,
        )
        for row in found.rows
        for value in [distances[names[row.model]]]
    )  # fmt: skip
    models = tuple(replace(one, model=names[one.model], steps=5000) for one in found.models)
    return replace(found, rows=rows, models=models)


def test_the_answer_names_the_best() -> None:
    # Two DiTs, and no FPDM: the best and the next.
    assert answer(made({"a": 3.0, "b": 1.0})) == (
        "At 140 block passes b (1.28 M parameters, 5,000 training steps) is 3.0 times as close to the test images as a "
        "(8.00 M, 5,000 steps): Fréchet distance 1.00 against 3.00."
    )


def test_the_answer_is_one_sentence_with_a_ratio_and_what_it_rests_on() -> None:
    found = made({"dit": 3.0, "dit-4": 1.0, "fpdm": 2.0})
    assert answer(found) == (
        "At 140 block passes fpdm (1.10 M parameters, 5,000 training steps) is 1.5 times as close to the test images "
        "as dit (8.00 M, 5,000 steps): Fréchet distance 2.00 against 3.00; the small DiT beside it, dit-4 (1.28 M, "
        "5,000 steps), is clearly closer, at 1.00."
    )
    assert (
        answer(made({"dit": 1.0, "dit-4": 9.0, "fpdm": 2.0}))
        .split("; ")[0]
        .endswith(
            "is 2.0 times as far from the test images as dit (8.00 M, 5,000 steps): Fréchet distance 2.00 against 1.00"
        )
    )
    assert "is clearly farther, at 9.00." in answer(made({"dit": 1.0, "dit-4": 9.0, "fpdm": 2.0}))
    assert "is not clearly closer or farther, at 2.10." in answer(made({"dit": 1.0, "dit-4": 2.1, "fpdm": 2.0}))


def test_the_answer_calls_nothing_clear_that_the_intervals_do_not_bear_out() -> None:
    text = answer(made({"dit": 2.1, "dit-4": 9.0, "fpdm": 2.0}))
    assert "do not differ clearly: Fréchet distance 2.00 against 2.10, and the intervals overlap;" in text
    assert "times as" not in text


def test_the_answer_says_if_no_small_dit_was_compared() -> None:
    found = made({"dit": 3.0, "dit-4": 1.0, "fpdm": 2.0})
    without = replace(found, rows=(found.rows[0], found.rows[2]), models=(found.models[0], found.models[2]))
    assert answer(without).endswith("Fréchet distance 2.00 against 3.00; no DiT of its own size was compared.")
    small = replace(found, rows=found.rows[1:], models=found.models[1:])  # the only DiT is the small one
    assert answer(small).endswith(
        "as far from the test images as dit-4 (1.28 M, 5,000 steps): Fréchet distance 2.00 against 1.00."
    )


def test_a_model_alone_is_held_against_real_images() -> None:
    text = answer(made({"fpdm": 3.0}))
    assert text.endswith("has a Fréchet distance of 3.00, 10 times that of real training images.")
    assert answer(made({"fpdm": 3.0}, floor=0.0)).endswith("has a Fréchet distance of 3.00.")


def test_nothing_is_called_closer_than_real_images() -> None:
    near = made({"fpdm": 3.0}, floor=4.0, images=12)
    assert answer(near).endswith("has a Fréchet distance of 3.00; that of real training images is 4.00.")
    assert [text for text in cautions(near) if text.startswith("fpdm measures as closer") and "12 images are" in text]
    assert not cautions(made({"fpdm": 4.1}, floor=4.0, images=12))
    (both,) = cautions(made({"fpdm": 3.0, "dit": 2.0, "dit-4": 5.0}, floor=4.0))
    assert both.startswith("fpdm and dit measure as closer") or both.startswith("dit and fpdm measure as closer")


def test_the_ratio_is_told_at_the_middle_budget_and_its_range_over_all() -> None:
    base = comparison(3, (560, 35, 140), ("ddim",))
    far = {
        (m.model, b): v
        for m, vs in zip(base.models, ((8, 6, 4), (1, 1, 1), (2, 2, 2)), strict=True)
        for b, v in zip((35, 140, 560), vs, strict=True)
    }
    rows = tuple(
        replace(row, distance=value, distance_low=0.9 * value, distance_high=1.1 * value)
        for row in base.rows
        for value in [float(far[row.model, row.budget])]
    )
    text = answer(replace(base, rows=rows))
    assert text.startswith("At 140 block passes ")
    assert "is 3.0 times as close" in text
    assert "(2.0 to 4.0 times over all budgets)" in text


def test_of_several_fpdms_validation_chooses() -> None:
    base = comparison(5, (140,), ("ddim",))
    fpdms = [one.model for one in base.models if one.kind == "fpdm"]
    assert len(fpdms) == 3
    for chosen in fpdms:
        rows = tuple(replace(row, choosing_distance=1.0 if row.model == chosen else 2.0) for row in base.rows)
        assert headline(replace(base, rows=rows)).first.model == chosen


def test_models_that_are_tens_of_times_as_far_as_real_images_are_named() -> None:
    (text,) = cautions(made({"a": 20.8, "b": 2.0}))  # against a floor of .3
    assert text.startswith("a is at best 69 times as far from the test images as real training images are")
    (text,) = cautions(made({"a": 20.8, "b": 2.0, "c": 30.0}))
    assert text.startswith("a and c are at best 69 and 100 times as far from the test images as real training images")
    assert not cautions(made({"a": 8.9, "b": 2.0}))
    # The floor of 5,000 real images is a fifth of that of 1,000, which says nothing of the model.
    assert not cautions(made({"a": 0.67, "b": 1.3}, floor=0.014, images=5000))
    assert len(cautions(made({"a": 3.46, "b": 1.3}, floor=0.014, images=5000))) == 1
    assert not cautions(made({"a": 3.0}, floor=0.0))


@pytest.mark.parametrize(("steps", "warned"), [(68, True), (100, True), (101, False), (0, False)])
def test_a_training_that_ended_in_its_warm_up_is_named(steps: int, warned: bool) -> None:
    found = made({"a": 1.0})
    (model,) = found.models
    recipe = {**model.recipe, "train": {**model.recipe["train"], "warmup": 100}}
    texts = cautions(replace(found, models=(replace(model, steps=steps, recipe=recipe),)))
    assert len(texts) == warned
    assert all(text.startswith(f"a was trained for {steps} steps and never left its warm-up of 100") for text in texts)


def test_an_answer_on_the_way_says_so_and_the_page_is_the_last_line() -> None:
    whole = made({"a": 3.0, "b": 1.0})
    assert stage_in_words(whole) == ""
    stages = (StageResult("first look", (50, 50), 1, 61.0, "a is best"),)
    part = replace(whole, stages=stages, is_full=False)
    assert "(first look: 50 images per result, each model with the plan that is stored with it)" in stage_in_words(part)
    text = Compared(part, Path("out/report.html")).to_text().split("\n")
    assert text[-1] == str(Path("out/report.html"))
    assert text[-2] == answer(part)
    assert text[-3] == stage_in_words(part)
    assert Compared(part, Path("x")).to_json() == part.to_json()
    again = Comparison.from_json(part.to_json())
    assert (again.stages, again.is_full) == (stages, False)
    assert "stages" not in whole.to_json()
