"""The report answers every claim first, and shows what was measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from fpdm.reproduce.pages import StudyRecord
from fpdm.reproduce.report import report
from fpdm.reproduce.scale import QUICK
from fpdm.reproduce.study import Measurements
from fpdm.reproduce.summary import Answer
from fpdm.reproduce.table2 import Table2
from fpdm.reproduce.table3 import Table3
from tests.axe import violations_in_all_looks
from tests.browser import served, visit
from tests.reproduce.made import measured


def test_claims_tables_figures_and_samples_are_on_the_page(tmp_path: Path) -> None:
    study = Table3()
    cells = tuple(measured(cell, 1.5 + i) for i, cell in enumerate(study.cells(QUICK)))
    record = StudyRecord("table3", asdict(QUICK), cells, 2, {}, {}, "fpdm reproduce table3", sheets=("some", "lost"))
    (tmp_path / "table3").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "table3" / "some.png")
    unmeasured = Table2().page(QUICK, Measurements([], {}))
    answers = [
        Answer(study, record, study.page(QUICK, Measurements(cells, {}))),
        Answer(Table2(), None, unmeasured),
    ]
    page = report(tmp_path, QUICK, answers)
    assert "Of 4 claims, 1 holds, 3 not measured." in page
    assert page.count("<img") == 4 + 1  # the forms of the figure, and one sheet
    assert 'width="20" height="10"' in page
    assert "Partial: 2 of 6 cells are missing." in page
    assert "fpdm reproduce table3" in page
    assert page.count("Table 2: four data sets") == 0  # it has no section, as nothing is measured
    assert page.count("its figures mean nothing") == 1


RECORDED = Path(__file__).parents[2] / "results" / "reproduction" / "report.html"


def test_the_recorded_page_is_small() -> None:
    assert RECORDED.stat().st_size < 2e6


@pytest.mark.slow
def test_the_recorded_page_is_for_all_readers() -> None:
    with served(RECORDED.parent) as address, visit(f"{address}{RECORDED.name}") as found:
        assert violations_in_all_looks(found.page) == []
