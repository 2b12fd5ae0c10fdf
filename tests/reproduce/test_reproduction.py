"""Studies are made, kept, and not made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fpdm.errors import RunError
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.jobs import Job
from fpdm.reproduce.models import Training
from fpdm.reproduce.reproduction import STUDIES, check_names, reproduce
from fpdm.reproduce.scale import FULL, QUICK
from fpdm.reproduce.table3 import MODELS
from tests.reproduce.made import measured


def test_names_come_in_the_order_of_the_studies_and_mistakes_are_named() -> None:
    assert check_names(["limits", "table1"]) == ["table1", "limits"]
    assert check_names(["all"]) == [*STUDIES]
    with pytest.raises(ValueError, match=r"no study 'table9'; expected all, table1, .*did you mean table"):
        check_names(["table9"])


def test_another_scale_needs_another_folder(tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text('{"name": "full", "macs": 1, "width": 64}')
    with pytest.raises(ValueError, match="has studies of scale full, not quick; choose another folder"):
        reproduce(["table1"], tmp_path, QUICK)
    assert FULL.name == "full"


def test_a_training_that_failed_is_told_on_the_page_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "diverged: no finite gradient (step 800); try a lower learning rate; its output is in work/a.txt"
    wanted, other = (Training(MODELS[n], 0).folder for n in (3, 24))
    monkeypatch.setattr("fpdm.reproduce.reproduction.run_jobs", lambda *_: {wanted: said, "of another study": said})
    with pytest.raises(RunError, match=rf"training {wanted} failed: diverged: .* its output is in work/a\.txt"):
        reproduce(["table3"], tmp_path, QUICK)
    assert json.loads((tmp_path / "table3" / "table3.json").read_text())["failed"] == {wanted: said.split(";")[0]}
    for page in (tmp_path / "table3" / "README.md", tmp_path / "README.md"):
        assert f"4 of 4 cells are missing. The training {wanted} failed: diverged: no" in page.read_text()
    monkeypatch.setattr("fpdm.reproduce.reproduction.run_jobs", lambda *_: {other: said})
    with pytest.raises(RunError):
        reproduce(["table3"], tmp_path, QUICK)
    assert {*json.loads((tmp_path / "table3" / "table3.json").read_text())["failed"]} == {wanted, other}


def test_a_training_that_diverged_is_not_tried_again_and_one_that_failed_otherwise_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []

    def run(bench: Bench, jobs: Sequence[Job], keep: object) -> dict[str, str]:
        asked.append({one.folder for job in jobs for one in job.trainings})
        return {folders[3]: "diverged: no finite gradient", folders[24]: "the disk is full"} if len(asked) == 1 else {}

    folders = {n: Training(MODELS[n], 0).folder for n in (3, 6, 12, 24)}
    monkeypatch.setattr("fpdm.reproduce.reproduction.run_jobs", run)
    with pytest.raises(RunError):
        reproduce(["table3"], tmp_path, QUICK)
    reproduce(["table3"], tmp_path, QUICK)
    assert asked == [{*folders.values()}, {folders[6], folders[12], folders[24]}]


def test_a_cell_that_another_study_has_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(bench: Bench, jobs: Sequence[Job], keep: Callable[[Job, object], object]) -> dict[str, str]:
        cells = [job for job in jobs if isinstance(job, Cell)]
        asked.append({cell.training.folder for cell in cells})
        for cell in cells:
            keep(cell, measured(cell, 2.0).result)
        return {}

    asked: list[set[str]] = []
    monkeypatch.setattr("fpdm.reproduce.reproduction.run_jobs", run)
    reproduce(["table3"], tmp_path, QUICK)
    reproduce(["table4"], tmp_path, QUICK)
    shared = {Training(MODELS[n], 0).folder for n in (6, 12)}
    assert shared <= asked[0]
    assert not shared & asked[1]
    record = json.loads((tmp_path / "table4" / "table4.json").read_text())
    assert (len(record["cells"]), record["missing"]) == (13, 0)


@pytest.mark.slow
def test_a_study_is_made_and_known_again_without_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reproduce(["table3"], tmp_path, QUICK, command="fpdm reproduce table3")
    assert sum(first.claims.values()) == 1
    record = json.loads((tmp_path / "table3" / "table3.json").read_text())
    assert (len(record["cells"]), record["missing"]) == (4, 0)
    page = (tmp_path / "table3" / "README.md").read_text()
    assert "its figures mean nothing" in page
    assert f"{record['cells'][0]['result']['distance']:.3g} (" in page
    assert {path.name for path in (tmp_path / "table3").iterdir()} >= {"table3.png", "table3.svg"}
    shutil.rmtree(tmp_path / "work")
    monkeypatch.setattr(Bench, "measure", lambda *_: pytest.fail("measured again"))
    assert reproduce(["table3"], tmp_path, QUICK, command="again") == first
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_all_studies_are_made(tmp_path: Path) -> None:
    reproduce(["all"], tmp_path, QUICK, command="fpdm reproduce all --quick")
    for name in STUDIES:
        record = json.loads((tmp_path / name / f"{name}.json").read_text())
        pictures = 2 if name == "table2" else 0  # the cells of a folder of colour pictures, which is not given
        assert record["missing"] == pictures, name
    assert "its figures mean nothing" in (tmp_path / "report.html").read_text()
