"""Parts of sources against lists, and one reader for what a folder skips."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpdm.data.decode import Decoder, decoders
from fpdm.data.loading import load_folder
from fpdm.data.sources.source import (
    Chosen,
    Joined,
    Part,
    Raw,
    Skipped,
    Source,
    check_most_readable,
    hash_files,
    hash_range,
    unusable,
    write_skipped,
)
from tests.data.image_files import ODD, put


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


def test_classes_are_those_that_occur() -> None:
    parts = {"train": Numbers(0, 1)}
    counts = {0: 2, 2: 1}
    assert Source("folder", "x", parts, "", ("a", "b", "c")).used_classes(counts) == {0: "a", 2: "c"}
    assert Source("tar", "x", parts, "").used_classes({7: 2, 3: 1}) == {3: "3", 7: "7"}
    assert Source("tar", "x", parts, "", labelled=False).used_classes(counts) == {}


def test_neighbours_are_read_together() -> None:
    ranges: list[tuple[int, int]] = []

    class Listening(Numbers):
        def read(self, start: int, stop: int) -> Iterator[Raw]:
            ranges.append((start, stop))
            return super().read(start, stop)

    assert labels(Chosen(Listening(0, 20), np.array([2, 3, 4, 9, 11, 12])), 1, 6) == [3, 4, 9, 11, 12]
    assert ranges == [(3, 5), (9, 10), (11, 13)]


def test_few_decoded_images_wait_for_the_reader() -> None:
    waiting, most, lock = 0, 0, threading.Lock()

    def decode(image: bytes) -> Any:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return "broken"

    with ThreadPoolExecutor(4) as pool:
        found = []
        for raw, pixels in Numbers(0, 50).decode(3, 40, cast(Any, decode), pool, ahead=5):
            found.append(raw.name)
            assert pixels == "broken"
            with lock:
                waiting -= 1
    assert found == [str(i) for i in range(3, 40)]
    assert most <= 6


def source(classes: tuple[str, ...], **options: Any) -> Source:
    return Source("tar", "made", {"train": Numbers(0, 3), "validation": Numbers(3, 2)}, "listing", classes, **options)


def test_a_source_counts_its_parts_if_all_are_known() -> None:
    assert source(()).count() == 5

    class Unknown(Numbers):
        def count(self) -> None:  # type: ignore[override]
            return None

    assert Source("tar", "made", {"train": Numbers(0, 3), "test": Unknown(0, 1)}, "").count() is None


def test_labels_are_within_the_classes_or_64_bits() -> None:
    named, numbered = source(("ant", "bee")), source(())
    assert [named.label_error(label) for label in (0, 1)] == ["", ""]
    assert named.label_error(2) == "its label 2 is out of range; expected 0 to 1"
    assert named.label_error(-2) == "its label -2 is out of range; expected 0 to 1"
    assert named.label_error(-1) == numbered.label_error(-1) == "without a class, which others have"
    assert numbered.label_error(2**63 - 1) == ""
    assert "its label 9223372036854775808 is out of range" in numbered.label_error(2**63)


def test_a_range_is_hashed_to_its_end_or_that_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fpdm.data.sources.source._BLOCK", 2)
    for start, size, expected in ((2, 5, b"23456"), (8, 5, b"89"), (4, 0, b"")):
        digest = hashlib.sha256()
        hash_range(digest, io.BytesIO(b"0123456789"), start, size)
        assert digest.digest() == hashlib.sha256(expected).digest()


def test_a_fingerprint_knows_names_order_and_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fpdm.data.sources.source._HASHED", 1)  # the next stretch begins after one file

    def fingerprint(content: bytes | None, names: str = "ab") -> str:
        for name in names:
            (tmp_path / name).write_bytes(b"same")
        (tmp_path / names[-1]).unlink()
        if content is not None:
            (tmp_path / names[-1]).write_bytes(content)
        digest = hashlib.sha256()
        hash_files(digest, tmp_path, [Path(name) for name in names])
        return digest.hexdigest()

    large = bytes(3 * 2**20)
    one = fingerprint(large)
    assert fingerprint(large) == one
    others = [large[: 2**20] + b"X" + large[2**20 + 1 :], large + b"X", b"X" + large[1:], large[:-1] + b"X", b"", None]
    assert len({one, *map(fingerprint, others), fingerprint(large, "ac"), fingerprint(large, "ba")}) == 9


def test_what_is_skipped_is_told_in_a_line() -> None:
    skipped = Skipped(Path("a\nb.png"), "empty (0 bytes)")
    assert skipped.to_text() == r"a\nb.png: empty (0 bytes)"
    error = unusable("set", skipped)
    assert str(error) == r"set/a\nb.png: empty (0 bytes); repair it, remove it, or leave out --strict"


def test_most_images_have_to_be_usable() -> None:
    check_most_readable(23, 46, "set", "a.png: empty (0 bytes)")
    with pytest.raises(ValueError) as error:
        check_most_readable(24, 46, "set", "a.png: empty (0 bytes)")
    assert str(error.value) == (
        "24 of the 46 images in set cannot be used, and would be left out; repair or remove them; one is a.png: empty "
        "(0 bytes)"
    )


def test_the_list_of_skipped_files_has_a_line_for_each(tmp_path):
    for name in ODD:
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "text.png").write_text("no image")
    for number in range(len(ODD)):
        put(tmp_path / "set" / "good" / f"{number}.png")
    summary = load_folder(tmp_path / "set", 4).summary
    write_skipped(summary.skipped, tmp_path / "skipped.txt")
    lines = (tmp_path / "skipped.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(ODD)
    written = [line.split("\t")[0] for line in lines]
    assert "ünï 猫.png/text.png" in written
    plain_names = [name.encode("latin-1", "backslashreplace").decode("unicode_escape") for name in written]
    assert plain_names == sorted(f"{name}/text.png" for name in ODD)
    assert {line.split("\t")[1] for line in lines} == {"not an image in a format that can be read"}
