"""Studies are made, kept, and not made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fpdm.reproduce.bench import Bench
from fpdm.reproduce.reproduction import STUDIES, check_names, reproduce
from fpdm.reproduce.scale import FULL, QUICK


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
