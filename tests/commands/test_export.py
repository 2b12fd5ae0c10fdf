from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fpdm import cli


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.slow
def test_export_writes_graphs_and_says_how_large_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    assert run("export", "fpdm-fashion", "--format", "onnx", "--out", out, "--weights", "int8", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["sizes"] == {path.stem: path.stat().st_size for path in out.glob("*.onnx")}
    assert {path.name for path in out.glob("[!.]*")} == {
        *("start.onnx", "iterate.onnx", "finish.onnx", "decode.onnx", "model.json")
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no-model", "--out", "new"), "there is no model 'no-model'"),
        (
            ("fpdm-fashion", "--out", "new", "--format", "torchscript"),
            "--format is 'torchscript'; expected one of onnx",
        ),
        (("fpdm-fashion", "--out", "new", "--weights", "int4"), "--weights is 'int4'; expected one of float32, int8"),
        (("fpdm-fashion", "--out", "new", "--budget", "1"), "a budget of 1 block passes is below one step"),
        (("fpdm-fashion", "--out", "full"), "--out full has other files"),
    ],
)
def test_mistakes_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str], message: str
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    assert run("export", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_missing_library_is_named_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run("export", "fpdm-fashion", "--out", tmp_path / "new") == 2
    assert "pip install 'fpdm[onnx]'" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
