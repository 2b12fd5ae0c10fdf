"""`fpdm reproduce` passes its options on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpdm import cli
from fpdm.reproduce.scale import FULL, QUICK


class Done:
    def to_text(self) -> str:
        return "made"


def test_every_option_arrives(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(
        "fpdm.reproduce.reproduction.reproduce", lambda *args, **named: seen.append((args, named)) or Done()
    )
    out = str(tmp_path / "r")
    assert cli.main(["reproduce", "table1", "--out", out]) == 0
    words = ["reproduce", "all", "--out", out, "--autoencoder", "vae", "--data-root", "d"]
    words += ["--pictures", "p", "--workers", "3"]
    assert cli.main(words) == 0
    assert not capsys.readouterr().err
    quick = ["reproduce", "all", "--quick", "--out", out]
    assert cli.main(quick) == 0
    assert "its figures mean nothing" in capsys.readouterr().err
    plain = {
        "autoencoder": "",
        "root": None,
        "pictures": None,
        "workers": 0,
        "command": f"fpdm reproduce table1 --out {out}",
    }
    given = {
        "autoencoder": "vae",
        "root": Path("d"),
        "pictures": Path("p"),
        "workers": 3,
        "command": f"fpdm {' '.join(words)}",
    }
    assert seen == [
        ((("table1",), Path(out), FULL), plain),
        ((("all",), Path(out), FULL), given),
        ((("all",), Path(out), QUICK), {**plain, "command": f"fpdm {' '.join(quick)}"}),
    ]


def test_a_folder_with_other_files_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert cli.main(["reproduce", "table1", "--out", str(tmp_path)]) == 2
    assert "has other files, such as notes.txt" in capsys.readouterr().err


def test_a_quick_trial_takes_no_autoencoder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["reproduce", "table1", "--quick", "--autoencoder", "x", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "--autoencoder is x, but --quick takes digits as pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
