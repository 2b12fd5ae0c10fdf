"""Which labels images are given: their numbers against the classes' proportions, and against a plain search."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fpdm.data.labels import balanced_labels, proportional_labels

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
