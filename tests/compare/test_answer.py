"""What a comparison says in words: its answer, how far it has come, and when not to believe it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fpdm.compare.answer import Compared, answer, cautions, stage_in_words
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
    assert answer(made({"a": 3.0, "b": 1.0})).startswith("At 140 block passes b has the lowest Fréchet distance, 1.0")


def test_models_that_are_tens_of_times_as_far_as_real_images_are_named() -> None:
    (text,) = cautions(made({"a": 20.8, "b": 2.0}))  # against a floor of .3
    assert text.startswith("a is at best 69 times as far from the test images as real training images are")
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
