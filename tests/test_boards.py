"""The boards of examples/boards keep the rules, are read as they were drawn, and judge models by both."""

from __future__ import annotations

import itertools
import json
import random
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fpdm.cli import main as fpdm

FILE = Path(__file__).parents[1] / "examples" / "boards" / "boards.py"
boards = SimpleNamespace(**runpy.run_path(str(FILE)))


def broken_by_hand(board: np.ndarray) -> int:
    """The rules, spelt out."""
    size = len(board)
    height, width = {6: (2, 3), 9: (3, 3)}[size]
    units = [[board[i][j] for j in range(size)] for i in range(size)]
    units += [[board[i][j] for i in range(size)] for j in range(size)]
    for top, left in itertools.product(range(0, size, height), range(0, size, width)):
        units.append([board[i][j] for i in range(top, top + height) for j in range(left, left + width)])
    return sum(sorted(unit) != [*range(size)] for unit in units)


@pytest.mark.parametrize("size", [6, 9])
def test_boards_keep_the_rules_and_broken_units_are_counted(size: int) -> None:
    draw = random.Random(0)
    made = np.stack([boards.random_board(size, draw) for _ in range(5)])
    assert [broken_by_hand(board) for board in made] == [0] * 5
    assert [*boards.broken_units(made)] == [0] * 5
    assert len({board.tobytes() for board in made}) == 5
    made[:, 1, 2] = (made[:, 1, 2] + 1) % size  # a row, a column and a box
    assert [*boards.broken_units(made)] == [3] * 5
    noise = np.random.default_rng(0).integers(0, size, (50, size, size))
    assert [*boards.broken_units(noise)] == [broken_by_hand(board) for board in noise]


@pytest.mark.parametrize("size", [6, 9])
def test_images_are_read_as_they_were_drawn_in_spite_of_noise(size: int) -> None:
    made = np.random.default_rng(1).integers(0, size, (20, size, size))
    images = boards.to_images(made) / 255
    assert (images != images[0]).any()
    noise = np.random.default_rng(2).uniform(-0.2, 0.2, images.shape)
    assert (boards.from_images(images + noise) == made).all()


def test_the_interval_of_a_share() -> None:
    assert boards.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # published tables
    assert boards.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


@pytest.mark.slow
def test_boards_are_made_learned_judged_and_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["boards.py", *map(str, words)])
        runpy.run_path(str(FILE), run_name="__main__")

    data, run = tmp_path / "boards", tmp_path / "run"
    call("make", data, "--count", 40)
    assert len([*data.glob("*.png")]) == 40
    shape = ["--size", "6", "--patch-size", "1", "--width", "16", "--heads", "2"]
    words = ["train", "folder", "--data", data, *shape, "--steps", "2", "--batch-size", "4", "--out", run]
    assert fpdm([*map(str, words)]) == 0
    few = ["--data", data, "--count", 8, "--samplers", "ddim"]
    call("judge", run, *few, "--budgets", 28, "--out", tmp_path / "judged.json")
    record = json.loads((tmp_path / "judged.json").read_text())
    assert (record["name"], record["training"]["steps"]) == ("fpdm-boards", 2)
    (row,) = record["rows"]
    assert (row["boards"], row["passes"] <= 28, row["valid"], row["copied"]) == (8, True, 0, 0)
    assert {one["iterations"] for one in row["tried"]} == {1, 2, 3, 5, 8, 12, 26}
    assert row["broken_units"] == pytest.approx(18, abs=2)
    call("solve", run, *few, "--budgets", 28, "--clues", 36, "--out", tmp_path / "solved.json")
    (row,) = json.loads((tmp_path / "solved.json").read_text())["rows"]
    assert (row["valid"], row["broken_units"]) == (1, 0)  # all is given
    call("solve", run, *few, "--budgets", 28, "--clues", 33, "--out", tmp_path / "nearly.json")
    (row,) = json.loads((tmp_path / "nearly.json").read_text())["rows"]
    assert 0 < row["broken_units"] <= 9  # three cells break three units each at most
