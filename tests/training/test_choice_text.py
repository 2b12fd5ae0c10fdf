"""The block that says what was chosen; its content is tested with the choice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fpdm.data.folder_summary import Span
from fpdm.training.choice import choose
from fpdm.training.choice_text import EXPECT, INDENT, RECOGNISABLE
from tests.training.test_choice import Machine, base, chosen, folder


def test_rows_are_wrapped_below_their_text() -> None:
    lines = chosen().text.splitlines()
    assert lines[0].startswith("photos: 1,000 images")
    for line in lines[1:]:
        assert line[INDENT] != " "
        assert line[:INDENT].strip() == "" or (line.startswith("  ") and line[2] != " ")


def test_expectations_rise_with_the_time() -> None:
    texts = [text for _, text in EXPECT]
    said = [" ".join(chosen(seconds).text.split()) for seconds in (5, 60, 300, 1500, 50_000)]
    places = [next(place for place, text in enumerate(texts) if text in one) for one in said]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == len(EXPECT) - 1


@pytest.mark.parametrize("seconds", [60, 600])
def test_the_time_for_recognisable_images_is_what_it_takes(seconds: float) -> None:
    machine = Machine(20, 30)
    found = folder(side=Span(28, 28.0, 28))
    text = " ".join(chosen(seconds, found=found, speed=machine).text.split())
    assert f"{RECOGNISABLE / 20 / 60 * 49 / 64:.0f} min for recognisable images" in text


def test_names_cannot_change_the_terminal() -> None:
    text = chosen(found=folder(classes=(9, 2), names=("a", "\x1b[31mred"))).text
    assert "\x1b" not in text


@pytest.mark.parametrize("seconds", [60, 600, 6000])
def test_no_option_is_divided(seconds: float) -> None:
    for images in range(1000, 1_000_000, 99_999):
        assert not [line for line in chosen(seconds, found=folder(images=images)).text.splitlines() if line[-1] == "-"]
    for name in ("", "a", "ab", "abc", "abcd", "abcde", "a folder", "a longer folder", "wide pictures"):
        recipe = replace(base(), name=f"fpdm-elastic-{name}")
        text = choose(recipe, folder(), seconds, Machine()).text
        assert not [line for line in text.splitlines() if line.endswith("-")]
