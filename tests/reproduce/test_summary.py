"""The page of the whole reproduction has every claim, measured or not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fpdm.files import write_atomically
from fpdm.reproduce.pages import StudyRecord
from fpdm.reproduce.scale import QUICK
from fpdm.reproduce.summary import read_answers, summary
from fpdm.reproduce.table2 import Table2
from fpdm.reproduce.table3 import Table3
from tests.reproduce.made import measured


def test_claims_are_answered_from_the_records_alone(tmp_path: Path) -> None:
    study, best = Table3(), {3: 1.0, 6: 1.5, 12: 2.0, 24: 3.0}
    cells = study.cells(QUICK)
    found = tuple(measured(cell, distance) for cell, distance in zip(cells, best.values(), strict=True))
    record = StudyRecord("table3", asdict(QUICK), found, 0, {}, {}, "fpdm reproduce table3")
    (tmp_path / "table3").mkdir()
    write_atomically(tmp_path / "table3" / "table3.json", record.to_json())
    page = summary(QUICK, read_answers(tmp_path, QUICK, [study, Table2()]), links="../r/")
    assert "Of 4 claims, 1 holds, 3 not measured." in page
    assert "its figures mean nothing" in page
    assert "## [Table 3: iterations in training](../r/table3/README.md)\n\n| claim | paper | here | |" in page
    assert "| 43.0, 43.2, 61.5, 567.6 | 1, 1.5, 2, 3 | holds |" in page
    assert "## Table 2: four data sets\n\nNot measured yet." in page


def test_the_recorded_page_is_made_from_the_recorded_figures() -> None:
    from fpdm.reproduce.reproduction import STUDIES
    from fpdm.reproduce.scale import FULL

    root = Path(__file__).parents[2]
    page = (root / "docs" / "reproduction.md").read_text(encoding="utf-8")
    answers = read_answers(root / "results" / "reproduction", FULL, [*STUDIES.values()])
    made = summary(FULL, answers, links="../results/reproduction/")
    assert page == made, "write it anew: make docs/reproduction.md"
