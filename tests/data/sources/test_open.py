"""Which kind a source is, and which of its images are held out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fpdm.data.sources.named import load
from tests.data.sources.small import PIXELS, opened, pack, png, read


def test_a_folder_is_read_in_stretches(tmp_path: Path) -> None:
    for i, pixels in enumerate(PIXELS):
        path = tmp_path / "ba"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(pixels))
    (tmp_path / "c").mkdir()
    source = opened(tmp_path)
    wanted = [(1, 0), (3, 0), (5, 0), (0, 1), (2, 1), (4, 1), (6, 1)]
    assert source.classes == ("a", "b")
    assert read(source) == wanted
    assert read(source, 2, 5) == wanted[2:5]
    assert read(source, 7, 9) == []
    held = opened(tmp_path, holdout=2)
    parts = read(held), read(held, split="validation")
    assert sorted(parts[0] + parts[1]) == sorted(wanted)
    assert len(parts[1]) == 2
    assert read(held, 1, 4) == parts[0][1:4]
    with pytest.raises(ValueError, match="there are 7 images"):
        opened(tmp_path, holdout=7)
    with pytest.raises(ValueError, match="for hub data sets"):
        opened(tmp_path, label_column="x")


def test_images_of_the_same_names_and_sizes_are_others(tmp_path: Path) -> None:
    for name, middle in (("one", 0), ("two", 1)):  # which differs far from both ends
        (tmp_path / name / "images").mkdir(parents=True)
        content = {"0.bmp": b"BM" + bytes(9000), "1.bmp": b"BM" + bytes(9000) + bytes([middle]) + bytes(9000)}
        for file, value in content.items():
            (tmp_path / name / "images" / file).write_bytes(value)
        pack(tmp_path / name / "images.tar", content)
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    os.utime(tmp_path / "copy" / "images" / "0.bmp", (0, 0))
    for name in ("images", "images.tar"):
        one, two, copy = (opened(tmp_path / folder / name).listing for folder in ("one", "two", "copy"))
        assert one == copy
        assert one != two


def test_images_win_over_what_lies_beside_them(tmp_path: Path) -> None:
    for folder in ("classes/a", "classes/b/deep", "flat/deep", "tars", "tables/data"):
        (tmp_path / folder).mkdir(parents=True)
    for image in ("classes/a/0.png", "classes/b/deep/1.png", "flat/2.png", "tars/preview.png", "tables/LICENSE"):
        (tmp_path / image).write_bytes(png(PIXELS[0]))
    for tar in ("classes/0.tar", "tars/0.tar"):
        pack(tmp_path / tar, {"3.png": png(PIXELS[3])})
    for table in ("classes/a/0.parquet", "flat/deep/0.arrow", "tables/data/0.parquet"):
        (tmp_path / table).write_bytes(b"no table")
    with pytest.warns(RuntimeWarning, match=r"classes is read as a folder of images.* 0\.tar is left out"):
        source = opened(tmp_path / "classes")
    assert (source.kind, source.classes) == ("folder", ("a", "b"))
    (tmp_path / "classes" / "0.tar").unlink()
    with pytest.warns(RuntimeWarning, match=r"0\.parquet is left out"):
        assert opened(tmp_path / "classes").kind == "folder"
    with pytest.warns(RuntimeWarning, match=r"0\.arrow is left out"):
        assert opened(tmp_path / "flat").kind == "folder"
    assert opened(tmp_path / "tars").kind == "tar"
    with pytest.raises(ValueError, match="datasets cannot load it"):
        opened(tmp_path / "tables")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fashion-mnst", "did you mean fashion-mnist"),
        ("Digits", "did you mean digits"),
        ("images/0.tar", r"there is no file images/0\.tar"),
        ("rows.parquet", r"there is no file rows\.parquet"),
        ("./rows.arrow", r"there is no file rows\.arrow"),
    ],
)
def test_mistyped_sources_are_refused_before_the_hub_is_asked(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(source)


def test_named_data_are_their_pixels() -> None:
    source = opened("digits")
    raw = [*source.parts["test"].read(3, 5)]
    wanted = load("digits", "test")
    assert np.array_equal(np.stack([one.image for one in raw]), wanted.images[3:5].numpy())  # type: ignore[arg-type]
    assert [one.label for one in raw] == wanted.labels[3:5].tolist()
    with pytest.raises(ValueError, match="validation images of its own"):
        opened("digits", holdout=2)
    with pytest.raises(ValueError, match="for hub data sets, not for digits"):
        opened("digits", split="test")
