"""Records are read as they were written, and say what is missing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from fpdm.files import write_atomically
from fpdm.reproduce.pages import StudyRecord, claims_table, read_floors, read_record, record_path, state, to_markdown
from fpdm.reproduce.scale import FULL, QUICK
from fpdm.reproduce.study import Claim, Measurements
from fpdm.reproduce.table3 import Table3
from tests.reproduce.made import measured

STUDY = Table3()
CELLS = tuple(measured(cell, 1.5) for cell in STUDY.cells(QUICK))


def record(**changes: object) -> StudyRecord:
    values = {"study": "table3", "scale": asdict(QUICK), "cells": CELLS, "missing": 0, "findings": {}}
    return StudyRecord(**{**values, "versions": {"fpdm": "9"}, "command": "fpdm reproduce table3", **changes})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path, STUDY) is None
    record_path(tmp_path, STUDY).parent.mkdir()
    write_atomically(record_path(tmp_path, STUDY), record(sheets=("a",), examined=True).to_json())
    found = read_record(tmp_path, STUDY)
    assert found is not None
    assert (found.cells, found.sheets, found.examined) == (CELLS, ("a",), True)
    record_path(tmp_path, STUDY).write_text('{"study": 1}')
    with pytest.raises(ValueError, match=r"table3\.json.*; delete it to measure it anew"):
        read_record(tmp_path, STUDY)


def test_floors_have_their_numbers_of_images(tmp_path: Path) -> None:
    assert read_floors(tmp_path) == {}
    (tmp_path / "floors.json").write_text('{"2000": 0.03}')
    assert read_floors(tmp_path) == {2000: 0.03}


def test_pages_say_what_is_missing_and_show_every_picture() -> None:
    assert state(record()) == ""
    assert state(record(missing=3)) == "Partial: 3 of 7 cells are missing."
    page = STUDY.page(QUICK, Measurements(CELLS, {}))
    text = to_markdown(STUDY, record(missing=1, sheets=("samples",)), page)
    assert "Partial: 1 of 5 cells are missing." in text
    assert "its figures mean nothing" in text
    assert "![table3](table3.png)\n\n![samples](samples.png)" in text
    assert "its figures mean nothing" not in to_markdown(STUDY, record(scale=asdict(FULL)), page)


def test_a_claim_is_a_row() -> None:
    assert claims_table([]) == ""
    rows = claims_table([Claim("a", "b", "c", "holds", "d"), Claim("e", "f", "–", "not measured")]).splitlines()
    assert rows[2:] == ["| a | b | c | holds: d |", "| e | f | – | not measured |"]
