"""Samples of archives against the names of their files."""

from __future__ import annotations

import pytest

from fpdm.data.sources.samples import File, Unusable, as_class, samples


def found(*names: str) -> dict[str, object]:
    """The images that are used, each with its label; a label is the name of its file."""
    files = [File(name, 0, 1, name.replace("/", " ").encode()) for name in names]
    return {one.image.name: one.label for one in samples(files) if not one.unused}


def test_a_sample_is_an_image_and_its_label() -> None:
    assert found("a/1.png", "a/1.cls", "b/1.cls", "b/1.JPG", "2.png") == {
        "a/1.png": "a 1.cls",
        "b/1.JPG": "b 1.cls",
        "2.png": None,
    }


def test_dots_in_names_are_no_matter() -> None:
    photos = [f"photo.{i:04}.png" for i in range(12)]
    assert found(*photos) == dict.fromkeys(photos)
    dates = [f"2023.01.{i:02}_12.00.png" for i in range(1, 13)]
    assert found(*dates) == dict.fromkeys(dates)
    assert found(*dates, *(name.replace("2023", "2024") for name in dates)).keys() > {*dates}
    assert found("photo.1.png", "photo.1.cls", "photo.2.png", "photo.2.cls", "photo.cls") == {
        "photo.1.png": "photo.1.cls",
        "photo.2.png": "photo.2.cls",
    }
    assert found("v1.5/a.png", "v1.5/b.png") == {"v1.5/a.png": None, "v1.5/b.png": None}


def test_of_several_images_the_one_with_the_name_of_the_sample_is_used() -> None:
    assert found("1.mask.png", "1.png", "1.cls") == {"1.png": "1.cls"}
    assert found("1.image.png", "1.cls") == {"1.image.png": "1.cls"}
    assert found("1.image.png", "1.image.cls", "1.cls") == {"1.image.png": "1.image.cls"}
    assert found("1.jpg", "1.png") == {"1.jpg": None}
    reasons = {one.image.name: one.unused for one in samples(File(name, 0, 1) for name in ("1.a.png", "1.png"))}
    assert reasons == {"1.a.png": "a second image of the sample 1", "1.png": ""}


@pytest.mark.parametrize(
    "names",
    [
        ["1.image.png", "1.mask.png"],
        [f"{i}.{kind}.png" for i in range(3) for kind in ("view1", "view2")],
    ],
)
def test_several_images_of_which_none_has_the_name_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"has 2 images \(.*\); name the one to use \d\.png"):
        found(*names)


def test_a_repeated_name_begins_anew() -> None:
    files = [File(name, start, 1, b"%d" % start) for start, name in enumerate(("1.png", "1.cls", "1.png", "1.cls"))]
    assert [(one.image.start, one.label) for one in samples(files)] == [(0, 1), (2, 3)]


def test_an_image_beyond_all_measure_is_not_read() -> None:
    (one,) = samples([File("1.png", 0, 2**31)])
    assert one.unused == "2147483648 bytes; expected at most 1073741824"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"7", 7),
        (b" 07\n", 7),
        (b"7.0", 7),
        (b"-1", -1),
        (b"7.5", "7.5"),
        (b"1e3", "1e3"),
        (b"cat", "cat"),
        ("\ufeff猫".encode(), "猫"),
        (b"caf\xe9", "caf\\xe9"),
        (b"", None),
        (b" \n", None),
        (b"9" * 31, "9" * 31),
    ],
)
def test_classes_of_text(content: bytes, expected: object) -> None:
    assert as_class(content) == expected


@pytest.mark.parametrize("content", [b"cat\ndog", b"a" * 101])
def test_long_texts_are_no_classes(content: bytes) -> None:
    assert isinstance(as_class(content), Unusable)
