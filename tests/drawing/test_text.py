from __future__ import annotations

import pytest

from fpdm.drawing.text import listing, plain, shortened, slug


def test_lists_in_words() -> None:
    assert [listing(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_shortened_names_keep_both_ends() -> None:
    assert shortened("short", 10) == "short"
    assert shortened("runs/first/model-a", 11) == "runs/…del-a"
    assert len(shortened("a" * 300, 48)) == 48


@pytest.mark.parametrize(
    ("text", "name"), [("Second-Order: 5 steps", "second-order-5-steps"), ("../../etc", "etc"), ("名前", "untitled")]
)
def test_slugs_are_safe_as_file_names(text: str, name: str) -> None:
    assert slug(text) == name
    assert len(slug(text * 50)) <= 60


def test_dollars_are_no_mathematics() -> None:
    assert plain("$x$") == r"\$x\$"
