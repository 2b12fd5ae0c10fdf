"""Data sets of the hub against the rows that they were made from."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpdm.data.decode import Decoder
from tests.data.sources.small import PIXELS, opened, png, read


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
    assert source.numbered
    assert source.used_classes({2: 3, 0: 1}) == {0: "ant", 2: "cat"}
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
    assert not source.numbered
    assert read(source) == [(0, 1), (1, 0), (2, -1), (3, 1)]
    with pytest.raises(
        ValueError, match=r"column 'label' of .* is of type string; .*without --streaming.*label-column"
    ):
        opened(strings, streaming=True)
    integers = written(tmp_path / "integers.parquet", [3, 0], datasets.Value("uint8"))
    source = opened(integers)
    assert read(source) == [(0, 3), (1, 0)]
    assert source.used_classes({3: 1, 0: 1}) == {0: "0", 3: "3"}
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


def test_columns_that_may_be_classes_are_named(datasets: Any, tmp_path: Path) -> None:
    rows = {"image": [{"bytes": png(PIXELS[0]), "path": None}], "breed": ["pug"], "id": [3]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    with pytest.warns(RuntimeWarning, match="no classes: .* has no column 'label', and none of breed, id was given"):
        assert not opened(tmp_path / "a.parquet").labelled
    assert opened(tmp_path / "a.parquet", label_column="breed").classes == ("pug",)


METADATA = {
    "no schema": b"{",
    "a text": b'"info"',
    "a list": b'{"info": {"features": []}}',
    "no type": b'{"info": {"features": {"image": {"_type": "Picture"}}}}',
    "others": b'{"info": {"features": {"image": {"dtype": "string", "_type": "Value"}}}}',
    "wrong": b'{"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "Image"}}}}',
    "names": b'{"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": 3}}}}',
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", METADATA)
def test_a_table_with_a_wrong_schema_is_refused_or_read(
    datasets: Any, tmp_path: Path, kind: str, streaming: bool
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = pa.array(
        [{"bytes": png(PIXELS[0]), "path": ""}] * 2, pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    made = pa.table({"image": images, "label": [0, 1]}).replace_schema_metadata({b"huggingface": METADATA[kind]})
    pq.write_table(made, tmp_path / "a.parquet")
    try:
        assert len(read(opened(tmp_path / "a.parquet", streaming=streaming))) == 2
    except ValueError as error:
        assert "cannot" in str(error) or "column" in str(error)  # noqa: PT017


def test_no_byte_of_a_table_makes_it_a_fault(datasets: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "whole.parquet", [0, 2, 1], datasets.ClassLabel(names=["ant", "bee", "cat"]))
    whole, draw = path.read_bytes(), random.Random(1)
    for i in range(60):
        changed = bytearray(whole)
        place = draw.randrange(4, len(whole)) if i % 2 else draw.randrange(len(whole) - 700, len(whole))
        changed[place] ^= 1 << draw.randrange(8)
        (tmp_path / f"{i}.parquet").write_bytes(changed)
        with contextlib.suppress(ValueError):
            for raw in opened(tmp_path / f"{i}.parquet", streaming=True).parts["train"].read(0, 9):
                Decoder(6)(raw.image)


def test_a_log_gets_no_progress_bars(datasets: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "rows.parquet", [0, 1], datasets.Value("int64"))
    datasets.enable_progress_bars()
    capfd.readouterr()
    opened(path)
    assert capfd.readouterr().err == ""


def test_columns_and_splits_are_checked(table: Path) -> None:
    with pytest.raises(ValueError, match="no column 'pictures'; expected one of image, label"):
        opened(table, image_column="pictures", streaming=True)
    with pytest.raises(ValueError, match="split test"):
        opened(table, split="test", streaming=True)
    with pytest.raises(ValueError, match="leave out --streaming"):
        opened(table, holdout=2, streaming=True)


def test_without_the_library_the_user_is_told(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install datasets"):
        opened(table)
