"""Sources of a cache against the files that they were made from."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fpdm.data.config import DataConfig, HubSettings
from fpdm.data.decode import Decoder
from fpdm.data.sources.named import load
from fpdm.data.sources.streams import Source, open_source

RANDOM = np.random.default_rng(5)
PIXELS = RANDOM.integers(0, 256, (7, 6, 6, 3), dtype=np.uint8)  # (N, H, W, 3)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def opened(source: Path | str, *, holdout: int = 0, **hub: object) -> Source:
    return open_source(DataConfig(str(source)), hub=HubSettings(**hub), holdout=holdout)  # type: ignore[arg-type]


def read(source: Source, start: int = 0, stop: int = 100, split: str = "train") -> list[tuple[int, int]]:
    """Which of PIXELS each image is, and its label."""
    found = []
    for raw in source.parts[split].read(start, stop):
        assert not isinstance(raw.image, np.ndarray)
        decoded = Decoder(6)(raw.image)
        assert not isinstance(decoded, str), decoded
        (which,) = np.flatnonzero((PIXELS.transpose(0, 3, 1, 2) == decoded.pixels).all(axis=(1, 2, 3)))
        found.append((int(which), raw.label))
    return found


# Folders


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
    for name, last in (("one", 0), ("two", 1)):
        (tmp_path / name / "images").mkdir(parents=True)
        content = {"0.bmp": b"BM" + bytes(5000), "1.bmp": b"BM" + bytes(4999) + bytes([last])}
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
    with pytest.warns(RuntimeWarning, match=r"classes is taken for a folder of images.* 0\.tar is left out"):
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


# Tar shards


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, value in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            archive.addfile(info, io.BytesIO(value))


def test_tar_shards_are_read_without_being_unpacked(tmp_path: Path) -> None:
    pack(
        tmp_path / "0.tar",
        {
            "a/0.png": png(PIXELS[0]),
            "a/0.cls": b"4",
            "b/0.cls": b"2\n",
            "b/0.seg.txt": b"text",
            "b/0.PNG": png(PIXELS[1]),
            "../outside.png": png(PIXELS[2]),
            "../outside.json": b'{"label": 1}',
            "none.png": png(PIXELS[3]),
            "text.txt": b"text",
        },
    )
    pack(tmp_path / "1.tar", {"x.json": b'{"label": 0}', "x.png": png(PIXELS[4])})
    with tarfile.open(tmp_path / "1.tar", "a") as archive:
        link = tarfile.TarInfo("y.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    source = opened(tmp_path)
    assert read(source) == [(0, 4), (1, 2), (2, 1), (4, 0)]
    assert read(source, 2, 4) == [(2, 1), (4, 0)]
    assert [(str(one.path), one.reason) for one in source.skipped] == [
        ("0.tar/none.png", "without a class, which others have")
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"0.tar", "1.tar"}
    assert not (tmp_path.parent / "outside.png").exists()


def test_a_truncated_tar_is_used_up_to_there(tmp_path: Path) -> None:
    pack(tmp_path / "0.tar", {f"{i}.png": png(PIXELS[i]) for i in range(3)})
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:1600])
    source = opened(tmp_path)
    assert read(source, 0, 1) == [(0, 0)]
    assert not source.labelled
    assert "damaged" in source.skipped[0].reason
    (tmp_path / "0.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="hold no image"):
        opened(tmp_path)


def header(tar: Path, name: str) -> int:
    """Where a member's header begins."""
    with tarfile.open(tar) as archive:
        return archive.getmember(name).offset


@pytest.mark.parametrize("how", ["header", "zeros", "cut before", "cut within", "no end"])
def test_a_tar_that_does_not_end_is_no_whole_one(how: str, tmp_path: Path) -> None:
    tar = tmp_path / "0.tar"
    pack(tar, {f"{i}.png": png(PIXELS[i]) for i in range(5)})
    whole, place = tar.read_bytes(), header(tar, "3.png")
    changed = {
        "header": whole[:place] + b"?" + whole[place + 1 :],
        "zeros": whole[:place] + bytes(1024) + whole[place + 1024 :],
        "cut before": whole[:place],
        "cut within": whole[: place + 100],
        "no end": whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 512],
    }
    tar.write_bytes(changed[how])
    source = opened(tmp_path)
    assert read(source, 0, 2) == [(0, 0), (1, 0)]
    assert [str(one.path) for one in source.skipped] == ["0.tar"]
    assert "damaged, read up to there" in source.skipped[0].reason


def test_whole_tars_of_any_program_pass(tmp_path: Path) -> None:
    files = {f"{i}.png": png(PIXELS[i]) for i in range(3)}
    pack(tmp_path / "0.tar", files)  # padded to 10240 bytes
    end = header(tmp_path / "0.tar", "2.png") + 512 + -(-len(files["2.png"]) // 512) * 512
    padded = (tmp_path / "0.tar").read_bytes()
    assert len(padded) % 10240 == 0
    (tmp_path / "1.tar").write_bytes(padded[: end + 1024])
    (tmp_path / "2.tar").write_bytes(padded[: end + 512])
    shards = 3
    if shutil.which("tar"):
        for name, value in files.items():
            (tmp_path / name).write_bytes(value)
        for blocks in ("1", "20", "128"):
            subprocess.run(["tar", "-b", blocks, "-cf", f"{shards}.tar", *files], cwd=tmp_path, check=True)
            shards += 1
    source = opened(tmp_path)
    assert not source.skipped
    assert read(source) == [(0, 0), (1, 0), (2, 0)] * shards


def test_labels_of_tar_shards_are_integers_wherever_they_begin(tmp_path: Path) -> None:
    labels = [None, b'{"label": true}', b'{"label": 2}', b'{"label": 1.0}']
    members = {f"{i}.png": png(PIXELS[i]) for i in range(4)}
    members |= {f"{i}.json": label for i, label in enumerate(labels) if label}
    pack(tmp_path / "0.tar", dict(sorted(members.items())))
    source = opened(tmp_path)
    assert source.labelled
    assert read(source) == [(2, 2)]
    assert [str(one.path) for one in source.skipped] == ["0.tar/0.png", "0.tar/1.png", "0.tar/3.png"]


# Hub data sets


def written(path: Path, labels: Sequence[object], label: object, pixels: np.ndarray = PIXELS) -> Path:
    """A table of the first images with these labels."""
    import datasets

    rows = {"image": [{"bytes": png(one), "path": None} for one in pixels[: len(labels)]], "label": labels}
    features = datasets.Features(image=datasets.Image(), label=label)
    datasets.Dataset.from_dict(rows, features).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub")
    written(folder / "rows.parquet", [0, 2, 1, 0, 2, 1, 0], datasets.ClassLabel(names=["ant", "bee", "cat"]))
    return folder


WANTED = [(0, 0), (1, 2), (2, 1), (3, 0), (4, 2), (5, 1), (6, 0)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["", "rows.parquet"])
def test_a_table_is_read_in_stretches(
    table: Path, name: str, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    source = opened(table / name, streaming=streaming)
    assert source.classes == ("ant", "bee", "cat")
    assert source.parts["train"].count() == (None if streaming else 7)
    assert read(source, 1, 3) == WANTED[1:3]
    assert read(source, 5, 20) == WANTED[5:]  # onwards, with a gap
    assert read(source, 0, 4) == WANTED[:4]  # and back
    assert source.listing == opened(table / name, streaming=streaming).listing


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, with an empty cache of its own."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "library")
    return library


@pytest.mark.parametrize("streaming", [False, True])
def test_another_table_is_another_listing(datasets: Any, streaming: bool, tmp_path: Path) -> None:
    classes, listings = datasets.ClassLabel(names=["ant", "bee"]), []
    for folder, pixels in (("one", PIXELS), ("two", PIXELS[::-1]), ("copy", PIXELS)):
        (tmp_path / folder).mkdir()
        path = written(tmp_path / folder / "rows.parquet", [0, 1], classes, pixels)
        listings.append({opened(one, streaming=streaming).listing for one in (path, path.parent)})
    one, two, copy = listings
    assert one == copy
    assert not one & two


def test_another_commit_is_another_listing(datasets: Any, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, commit = datasets.load_dataset_builder, "1"

    def from_hub(name: str, data_files: None) -> Any:
        assert (name, data_files) == ("owner/rows", None)
        made = load(str(table))
        made.hash = commit
        return made

    monkeypatch.setattr(datasets, "load_dataset_builder", from_hub)
    first, again = (opened("owner/rows", streaming=True).listing for _ in range(2))
    commit = "2"
    assert first == again != opened("owner/rows", streaming=True).listing


def test_strings_are_classes_and_other_columns_are_refused(datasets: Any, tmp_path: Path) -> None:
    strings = written(tmp_path / "strings.parquet", ["cow", "ape", None, "cow"], datasets.Value("string"))
    source = opened(strings)
    assert source.classes == ("ape", "cow")
    assert read(source) == [(0, 1), (1, 0), (2, -1), (3, 1)]
    with pytest.raises(
        ValueError, match=r"column 'label' of .* is of type string; .*without --streaming.*label-column"
    ):
        opened(strings, streaming=True)
    integers = written(tmp_path / "integers.parquet", [3, 0], datasets.Value("uint8"))
    assert read(opened(integers)) == [(0, 3), (1, 0)]
    for kind, labels in (("float32", [0.7, 1.7]), ("bool", [True, False])):
        path = written(tmp_path / f"{kind}.parquet", labels, datasets.Value(kind))
        with pytest.raises(ValueError, match=f"column 'label' of .* is of type {kind}; .*label-column"):
            opened(path)


def test_rows_without_an_image_are_no_error(datasets: Any, tmp_path: Path) -> None:
    rows = {"image": [{"bytes": png(PIXELS[0]), "path": None}, {"bytes": None, "path": None}, None]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    found = [Decoder(6)(raw.image) for raw in opened(tmp_path / "a.parquet").parts["train"].read(0, 3)]  # type: ignore[arg-type]
    assert not isinstance(found[0], str)
    assert found[1:] == ["empty (0 bytes)"] * 2


def test_a_log_gets_no_progress_bars(datasets: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "rows.parquet", [0, 1], datasets.Value("int64"))
    datasets.enable_progress_bars()
    capfd.readouterr()
    opened(path)
    assert capfd.readouterr().err == ""


def test_columns_and_splits_are_checked(table: Path) -> None:
    with pytest.raises(ValueError, match="no column 'pictures', but image, label"):
        opened(table, image_column="pictures", streaming=True)
    with pytest.raises(ValueError, match="split test"):
        opened(table, split="test", streaming=True)
    with pytest.raises(ValueError, match="leave out --streaming"):
        opened(table, holdout=2, streaming=True)


def test_without_the_library_the_user_is_told(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install datasets"):
        opened(table)
