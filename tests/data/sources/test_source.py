"""Parts of sources against lists, and one reader for what a folder skips."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpdm.data.decode import Decoder, decoders
from fpdm.data.sources.source import Chosen, Joined, Part, Raw, Source


class Numbers(Part):
    """Images that hold their number, with it as their label."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.n = first, count

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        for i in range(self.first, self.first + self.n)[start:stop]:
            yield Raw(str(i), np.full((1, 2, 2), i, np.uint8), i)

    def count(self) -> int:
        return self.n


def labels(part: Part, start: int, stop: int) -> list[int]:
    return [raw.label for raw in part.read(start, stop)]


@given(st.sets(st.integers(0, 30)), st.integers(0, 35), st.integers(0, 35))
def test_chosen_images_are_those_of_their_places(places: set[int], start: int, stop: int) -> None:
    chosen = sorted(places)
    assert labels(Chosen(Numbers(0, 31), np.array(chosen, int)), start, stop) == chosen[start:stop]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 25), st.integers(0, 25))
def test_joined_parts_are_one_list(counts: list[int], start: int, stop: int) -> None:
    firsts = np.cumsum([0, *counts]).tolist()
    joined = Joined([Numbers(first, count) for first, count in zip(firsts, counts, strict=False)])
    assert joined.count() == sum(counts)
    assert labels(joined, start, stop) == [*range(sum(counts))][start:stop]


@pytest.mark.parametrize("ahead", [0, 3, 100])
def test_images_are_decoded_in_order(ahead: int) -> None:
    with decoders(3) as pool:
        found = [*Numbers(0, 20).decode(2, 15, Decoder(2), pool, ahead=ahead)]
    assert [raw.label for raw, _ in found] == [*range(2, 15)]
    assert all(not isinstance(image, str) and (image.pixels == raw.label).all() for raw, image in found)


def test_classes_are_those_of_the_source_or_those_that_occur() -> None:
    parts = {"train": Numbers(0, 1)}
    counts = {0: 2, 2: 1}
    assert Source("folder", "x", parts, "", ("a", "b", "c"), fixed=False).used_classes(counts) == {0: "a", 2: "c"}
    assert Source("hub", "x", parts, "", ("a", "b", "c", "d")).used_classes(counts) == dict(enumerate("abcd"))
    assert Source("tar", "x", parts, "").used_classes(counts) == {0: "0", 1: "1", 2: "2"}
    assert Source("tar", "x", parts, "", labelled=False).used_classes(counts) == {}
