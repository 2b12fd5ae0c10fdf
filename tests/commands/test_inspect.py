from __future__ import annotations

from pathlib import Path

import pytest

from fpdm import cli
from fpdm.inspection.settings import InspectionSettings
from tests.commands.parsed import values


def test_every_option_of_inspect_is_heard() -> None:
    words = ("--num-images", "3", "--rows", "5", "--columns", "6", "--seed", "7", "--budget", "56", "--no-reuse")
    found = values("inspect", "run", "--out", "x", "--class", "cat", "--data", "photographs", *words)
    assert found["inspection"] == InspectionSettings(3, 7, 5, 6)
    assert (found["budget"], found["plan"].reuse) == ("56", False)
    assert (found["run"], found["class_"], found["data"]) == ("run", "cat", "photographs")


def test_a_folder_of_others_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert cli.main(["inspect", "fpdm-fashion", "--out", str(tmp_path)]) == 2
    assert "has other files, such as thesis.tex" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert cli.main(["inspect", "fpdm-fashion", "--out", str(tmp_path), "--self-guidance", "1"]) == 2
