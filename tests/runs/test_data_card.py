"""What a run keeps of its images: counts, names, a hash and a picture."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.data.images import ImageSet
from fpdm.data.labels import class_label
from fpdm.data.loading import Dataset
from fpdm.data.splits import Splits
from fpdm.files import lock
from fpdm.runs.data_card import DataCard, check_data_card, contact_sheet, read_data_card, write_data_card
from fpdm.runs.recipe import Recipe
from tests.training.small import recipe


def keep(run: Path, recipe: Recipe, data: Dataset) -> DataCard:
    """What `fpdm train` does."""
    record = DataCard.of("digits", data)
    check_data_card(run, recipe, record)
    write_data_card(run, recipe, record, data)
    return record


def images(labels: list[int], side: int = 64, classes: int = 3) -> ImageSet:
    """Image i is all of the grey value i."""
    values = torch.arange(len(labels), dtype=torch.uint8)  # (N,)
    return ImageSet("made", values[:, None, None, None].expand(-1, 1, side, side), torch.tensor(labels), classes)


def dataset(*labels: int) -> Dataset:
    part = images([0, 1, 2], 4)
    return Dataset(Splits(images([*labels], 4), part, part), ("ant", "bee", "cat"), None)


def seen(sheet: np.ndarray, side: int = 64) -> list[int]:
    """The grey values of a sheet's images, read row by row; 255 is the white that is left over."""
    middle = sheet[side // 2 :: side + 4, side // 2 :: side + 4]  # (rows, columns, 3)
    assert (middle[..., 0] == middle[..., 2]).all()
    return [value for value in middle[..., 0].flatten().tolist() if value != 255]


def test_contact_sheet_shows_all_of_a_few_class_by_class() -> None:
    assert seen(contact_sheet(images([2, 0, 1, 0, 2]))) == [1, 3, 2, 0, 4]


def test_contact_sheet_takes_evenly_of_many() -> None:
    labels = [0] * 100 + [1] * 5 + [2] * 60
    shown = seen(contact_sheet(images(labels)))
    assert len(shown) == 64
    assert [sum(labels[i] == label for i in shown) for label in range(3)] == [30, 5, 29]
    assert shown == sorted(shown)


@pytest.mark.parametrize(("side", "shown"), [(256, 64), (512, 16), (2048, 1), (3000, 1)])
def test_contact_sheet_shows_fewer_if_they_are_large(side: int, shown: int) -> None:
    sheet = contact_sheet(images([0] * 70, side, 0))
    columns = int(shown**0.5)
    assert sheet.shape == (columns * (side + 4) - 4, columns * (side + 4) - 4, 3)


def test_record_is_kept_and_read(tmp_path: Path) -> None:
    data = dataset(0, 1, 2, 2)
    assert read_data_card(tmp_path) is None
    record = keep(tmp_path, recipe(), data)
    assert read_data_card(tmp_path) == record
    assert record.to_text() == "4 images to train on, 3 to validate, 3 to test"
    assert {path.name for path in tmp_path.iterdir()} == {"data.json", "data.png", ".lock", ".fpdm.json"}
    with Image.open(tmp_path / "data.png") as picture:
        assert picture.size == (8 * 68 - 4, 64)


def test_images_may_change_until_there_is_a_run(tmp_path: Path) -> None:
    first, other = dataset(0, 1, 2, 2), dataset(0, 1, 2)
    keep(tmp_path, recipe(), first)
    keep(tmp_path, recipe(), other)
    (tmp_path / "recipe.json").write_text(recipe().to_json())
    changed = r"train \+ validation \+ test were 3 \+ 3 \+ 3, are 4 \+ 3 \+ 3; .* another folder"
    with pytest.raises(ValueError, match=changed):
        keep(tmp_path, recipe(), first)
    relabelled = dataset(0, 1, 1)  # as many, but others
    with pytest.raises(ValueError, match=r"have changed since: sha256 \w{12} -> \w{12};"):
        keep(tmp_path, recipe(), relabelled)
    assert read_data_card(tmp_path) == DataCard.of("digits", other)


def test_a_run_from_before_there_were_records_gets_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(recipe().to_json())
    data = dataset(0, 1, 2)
    keep(tmp_path, recipe(steps=99), data)  # it may be trained for longer
    assert read_data_card(tmp_path) == DataCard.of("digits", data)


def test_nothing_is_done_to_a_folder_of_another_run_or_in_use(tmp_path: Path) -> None:
    data = dataset(0, 1, 2)
    (tmp_path / "recipe.json").write_text(recipe(seed=1).to_json())
    keep(tmp_path, recipe(), data)
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.json", ".lock", ".fpdm.json"}
    pool = ThreadPoolExecutor(1)  # a thread is as foreign to a lock as a process
    with lock(tmp_path / "used"), pytest.raises(ValueError, match="in use by process"):
        pool.submit(keep, tmp_path / "used", recipe(), data).result()
    assert {path.name for path in (tmp_path / "used").iterdir()} == {".lock"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"classes": 3}', '{"classes": [], "colour": "red"}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(ValueError, match=r"data\.json.*; delete it, and training writes a new one"):
        read_data_card(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"), [('"bee"', '"wasp"'), ('"train": 4', '"train": 5'), ('"checksum": "', '"checksum": "a')]
)
def test_a_changed_record_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    record = keep(tmp_path, recipe(), dataset(0, 1, 2, 2))
    text = (tmp_path / "data.json").read_text()
    assert text.count(old) == 1
    (tmp_path / "data.json").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=r"data\.json is damaged: its checksum .*; delete it"):
        read_data_card(tmp_path)
    (tmp_path / "data.json").write_text(text.replace('"digits"', '"elsewhere"'))  # images may move
    assert read_data_card(tmp_path) == dataclasses.replace(record, source="elsewhere")


@pytest.mark.parametrize(
    ("name", "classes", "number", "says"),
    [
        ("red dgo", ("cat", "red dog"), 2, "one of cat, red dog; did you mean red dog?"),
        ("2", ("cat", "dog"), 2, "there is no class '2'; expected one of cat, dog"),
        ("-1", (), 10, "there is no class '-1'; expected a number from 0 to 9"),
        ("²", (), 10, "there is no class '²'"),
        ("x", tuple(f"class {i}" for i in range(30)), 30, "class 8, class 9, ..."),
        ("a", ("a\nb",), 1, "one of a\\nb"),
        ("0", (), 0, "trained without classes"),
    ],
)
def test_classes_that_there_are_not(name: str, classes: tuple[str, ...], number: int, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        class_label(name, classes, number)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_hash_knows_images_labels_and_their_order() -> None:
    base = dataset(0, 1, 2)
    swapped = dataclasses.replace(base, splits=Splits(base.splits.train, base.splits.test, images([0, 2, 1], 4)))
    assert len({base.sha256, dataset(0, 1, 1).sha256, swapped.sha256}) == 3
    assert dataset(0, 1, 2).sha256 == base.sha256
