"""`fpdm reference`: what is given arrives. What it computes: tests/fid/test_reference.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpdm import cli
from fpdm.fid.settings import ReferenceSettings


class Done:
    def to_text(self) -> str:
        return "statistics"


def test_every_option_arrives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[object] = []
    monkeypatch.setattr(
        "fpdm.fid.reference.make_reference", lambda *args, **named: seen.append((args, named)) or Done()
    )
    out = tmp_path / "new" / "ref.npz"
    assert cli.main(["reference", "photos", "--out", str(out)]) == 0
    words = ["--data-root", "files", "--split", "test", "--size", "64", "--features", "100", "--overwrite"]
    assert cli.main(["reference", "digits", "--out", str(out), *words]) == 0
    assert seen == [
        (("photos", out, ReferenceSettings()), {"root": None, "overwrite": False}),
        (
            ("digits", out, ReferenceSettings(split="test", size=64, features=100)),
            {"root": Path("files"), "overwrite": True},
        ),
    ]


def test_a_file_that_cannot_be_written_is_known_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["reference", "none", "--out", str(tmp_path / "file" / "ref.npz")]) == 2
    assert f"{tmp_path / 'file'} is a file; expected a folder" in capsys.readouterr().err
