"""Comparisons are read back as they were written, also by earlier versions; anything else is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fpdm.compare.results import Comparison, ImageRow, ImageSheet, read_comparison
from tests.compare.made import comparison

RECORDED = sorted((Path(__file__).parents[2] / "results").glob("**/compare.json"))


def test_a_comparison_comes_back_as_it_was() -> None:
    made = comparison(3, (35, 140), ("ddim", "ddpm"), sweep=True)
    sheet = ImageSheet(12, (ImageRow("real"), ImageRow("samples", "dit", 35, "ddim")))
    rows = (replace(made.rows[0], measures={"density": 0.25}, choosing_distance=None), *made.rows[1:])
    made = replace(made, images=sheet, rows=rows, settings=json.loads(json.dumps(made.settings)))
    again = Comparison.from_json(made.to_json())
    assert again.to_json() == made.to_json()
    assert (again.rows, again.sweep, again.images) == (made.rows, made.sweep, made.images)
    assert [one.losses for one in again.models] == [one.losses for one in made.models]


def test_what_a_comparison_does_not_have_is_not_written() -> None:
    written = json.loads(comparison(1, (35,), ("ddim",)).to_json())
    assert "images" not in written
    assert "measures" not in written["rows"][0]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_recorded_comparisons_are_read(path: Path) -> None:
    found = read_comparison(path.parent)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert [row.distance for row in found.rows] == [row["distance"] for row in written["rows"]]
    assert all(
        row.floor_images == old.get("floor_images", row.images)
        for row, old in zip(found.rows, written["rows"], strict=True)
    )
    assert found.models[0].steps == written["models"][0]["steps"]


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    values = json.loads(comparison(1, (35,), ("ddim",)).to_json())
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no comparison"),
        ("{", "is no comparison"),
        ("[1, 2]", "it is not an object"),
        ("{}", "comparison lacks command; expected a text"),
        (changed(lambda v: v.pop("features")), "comparison lacks features; expected a text"),
        (changed(lambda v: v["rows"][0].pop("distance")), "rows lacks distance; expected a number"),
        (changed(lambda v: v["rows"][0].update(distance="low")), "distance is 'low'; expected a number"),
        (changed(lambda v: v["models"][0].update(losses=[[1, 2]])), "losses has an entry that is too short"),
        (changed(lambda v: v.update(rows=[])), "it has no rows or no models"),
        (changed(lambda v: v.update(rows=[1])), "rows is int; expected an object"),
    ],
)
def test_damaged_and_foreign_files_are_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        read_comparison(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("expected a folder made by fpdm compare --out")


def test_a_file_that_is_no_text_and_a_folder_without_a_comparison(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no compare\.json in"):
        read_comparison(tmp_path)
    (tmp_path / "compare.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"compare\.json is no text in UTF-8"):
        read_comparison(tmp_path)


def test_self_guidance_is_written_where_there_is_some() -> None:
    made = comparison(2, (140,), ("ddim",))
    plain, *rest = made.rows
    guided = replace(plain, self_guidance=0.4, weak_depth=1, self_guidance_range=(0, 500))
    found = Comparison.from_json(replace(made, rows=(guided, *rest)).to_json())
    assert found.rows == (guided, *rest)
    assert "self_guidance" not in made.to_json()
    assert "self-guidance" not in made.to_text()
    assert "self-guidance 0.4 (depth 1, timesteps 0 to 500)" in found.to_text().splitlines()[2]


def test_the_grid_by_angle_is_explained_where_it_is_printed() -> None:
    made = comparison(2, (140,), ("ddim",))
    plain, *rest = made.rows
    rows = [replace(row, grid="trailing") for row in made.rows]
    assert "phi" not in replace(made, rows=tuple(rows)).to_text()
    assert "atan2(sigma, alpha)" in replace(made, rows=(replace(plain, grid="phi^1.5"), *rest)).to_text()
