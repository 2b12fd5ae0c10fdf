"""The layout of a set against the places of its images."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpdm.data.sources.layout import layout


def made(beside: int, inside: int, *, bad: tuple[str, ...] = ()) -> tuple[int, bool, dict[str, str]]:
    """How many images are used, whether their folders are classes, and what is skipped and why."""
    paths = [Path(f"{i}.png") for i in range(beside)] + [Path("ab"[i % 2], f"{i}.png") for i in range(inside)]
    found = layout(paths, "set", lambda path: "bad" if str(path) in bad else "")
    return len(found.paths), found.in_classes, {str(path): reason for path, reason in found.skipped}


def test_folders_are_classes_if_all_images_lie_in_them() -> None:
    assert made(0, 4) == (4, True, {})
    assert made(4, 0) == (4, False, {})


def test_no_file_is_opened_where_the_names_say_it_all() -> None:
    def opened(path: Path) -> str:
        raise AssertionError(path)

    assert layout([Path("a.png")], "set", opened).paths == [Path("a.png")]
    assert layout([Path("a/a.png")], "set", opened).in_classes


def test_a_tenth_may_be_left_out_and_no_more() -> None:
    assert made(1, 9) == (9, True, {"0.png": "lies beside the class folders"})
    assert made(9, 1) == (9, False, {"a/0.png": "lies in a sub-folder, and most images beside it"})
    for beside, inside, move in ((2, 9, "images"), (9, 2, "sub-folders")):
        with pytest.raises(ValueError, match=rf"{beside} images and .* with {inside}: .* Move the {move}"):
            made(beside, inside)


def test_only_images_that_can_be_read_count() -> None:
    assert made(9, 2, bad=("a/0.png",))[:2] == (9, False)
    assert made(1, 2, bad=("0.png",)) == (2, True, {"0.png": "bad"})
    assert made(2, 1, bad=("a/0.png",)) == (2, False, {"a/0.png": "bad"})


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["train/cat/1.png", "val/cat/2.png"], "set has the sub-folders train, val, which are splits and no classes"),
        (["Train/1.png", "test/2.png"], "which are splits"),
        (["images/cat/1.png", "images/dog/2.png"], "only the sub-folder images, which has 2 of its own"),
        (["a/b/cat/1.png", "a/b/dog/2.png", "a/b/dog/x/3.png"], "only the sub-folder a/b, which has 2 of its own"),
    ],
)
def test_folders_that_are_no_classes_are_refused(paths: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        layout([*map(Path, paths)], "set", lambda _: "")


@pytest.mark.parametrize("paths", [["train/1.png"], ["only/deep/1.png"], ["train/1.png", "cat/2.png"]])
def test_folders_that_may_be_classes_are(paths: list[str]) -> None:
    assert layout([*map(Path, paths)], "set", lambda _: "").in_classes
