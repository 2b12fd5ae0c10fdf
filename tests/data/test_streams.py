"""Sources of a cache against the files that they were made from."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fpdm.data import DataConfig, load
from fpdm.data.decode import Decoder
from fpdm.data.streams import HubSettings, Source, open_source

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
        ("0.tar/none", "without a class, which the first image has")
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


# Hub data sets


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub")
    rows = {"image": [{"bytes": png(pixels), "path": None} for pixels in PIXELS], "label": [0, 2, 1, 0, 2, 1, 0]}
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["ant", "bee", "cat"]))
    made = datasets.Dataset.from_dict(rows, features)
    made.to_parquet(folder / "rows.parquet")
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


def test_columns_and_splits_are_checked(table: Path) -> None:
    with pytest.raises(ValueError, match="no column 'pictures', but image, label"):
        opened(table, image_column="pictures", streaming=True)
    with pytest.raises(ValueError, match="split test"):
        opened(table, split="test", streaming=True)
    with pytest.raises(ValueError, match="leave out --streaming"):
        opened(table, holdout=2, streaming=True)


def test_without_the_library_the_user_is_told(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'fpdm\[hub\]'"):
        opened(table)
