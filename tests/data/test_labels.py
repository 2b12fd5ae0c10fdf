"""Which labels images are given: their numbers against the classes' proportions, and against a plain search."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpdm.data.labels import balanced_labels, class_label, labels_by_name, proportional_labels, warn_of_look_alikes

sizes = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any)


def plain(count: int, wanted: list[int]) -> list[int]:
    labels: list[int] = []
    for _ in range(count):
        claims = [size / (2 * labels.count(label) + 1) for label, size in enumerate(wanted)]
        labels.append(max(range(len(wanted)), key=lambda label: (claims[label], -label)))
    return labels


@given(sizes, st.integers(0, 60))
def test_each_label_is_the_one_with_the_strongest_claim(wanted: list[int], count: int) -> None:
    assert proportional_labels(count, wanted) == plain(count, wanted)


@given(sizes)
def test_as_many_as_there_are_gives_their_numbers(wanted: list[int]) -> None:
    labels = proportional_labels(sum(wanted), wanted)
    assert [labels.count(label) for label in range(len(wanted))] == wanted


def test_equal_classes_take_turns() -> None:
    assert proportional_labels(25, [7] * 10) == balanced_labels(range(25), 10)


def test_without_classes_all_are_zero() -> None:
    assert proportional_labels(3, []) == balanced_labels(range(3), 0) == [0, 0, 0]


SHIRT = ("shirt", "bag", "boot")


@pytest.mark.parametrize(
    ("name", "classes", "numbers", "label"),
    [
        ("bag", SHIRT, (), 1),
        ("7", ("3", "7"), (), 1),
        ("2", ("1", "10", "2"), (), 2),
        ("6", SHIRT, (3, 6, 9), 1),
        ("0", SHIRT, (3, 6, 0), 2),
        ("2", (), (), 2),
        ("1", ("1", "0"), (0, 1), 0),  # a name before a number
    ],
)
def test_a_class_is_given_by_its_name_or_its_number_in_the_data(
    name: str, classes: tuple[str, ...], numbers: tuple[int, ...], label: int
) -> None:
    assert class_label(name, classes, len(classes) or 3, numbers) == label


@pytest.mark.parametrize(
    ("name", "classes", "numbers", "says"),
    [
        ("0", ("3", "7"), (), "expected one of 3, 7$"),
        ("1", SHIRT, (), "expected one of shirt, bag, boot$"),
        ("1", SHIRT, (3, 6, 9), "expected a number from 3 to 9 or one of shirt, bag, boot$"),
        ("3", (), (), "expected a number from 0 to 2$"),
        ("9" * 5000, (), (), "expected a number from 0 to 2$"),
        ("boat", SHIRT, (), "did you mean boot"),
    ],
)
def test_a_place_in_a_list_is_no_class(
    name: str, classes: tuple[str, ...], numbers: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        class_label(name, classes, len(classes) or 3, numbers)


def test_a_class_goes_by_each_of_its_names() -> None:
    classes = ("tench, Tinca tinca", "goldfish", "1", "goldfish", "Tinca tinca", ", ,")
    assert labels_by_name(classes) == {
        **{"tench, Tinca tinca": 0, "tench": 0, "goldfish": 1, "1": 2},
        **{"Tinca tinca": 4, ", ,": 5},  # a whole name comes before a part of another
    }
    assert [class_label(name, classes, 6, range(6)) for name in ("tench", "1", "0", "3")] == [0, 2, 0, 3]
    with pytest.raises(ValueError, match=r"there is no class 'tinch'; .*did you mean tench\?"):
        class_label("tinch", classes, 6)


def test_a_class_is_found_however_its_accents_are_encoded() -> None:
    composed, apart = "b\u00e4r", "ba\u0308r"
    assert class_label(composed, ("ant", apart), 2) == 1
    assert class_label(apart, ("ant", composed), 2) == 1
    assert class_label(apart, (composed, apart), 2) == 1  # what is written exactly so comes first
    with pytest.raises(ValueError, match="there is no class"):
        class_label("BAER", ("ant", apart), 2)


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("cat", "cat "), ("b\u00e4r", "ba\u0308r")])
def test_names_that_look_alike_are_worth_a_warning(pair: tuple[str, str]) -> None:
    with pytest.warns(RuntimeWarning, match="no more than case, spaces or the encoding of accents"):
        warn_of_look_alikes(("ant", *pair))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_look_alikes(("ant", pair[0]))
