"""`fpdm import`: options, mistakes, and a model that is sampled from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fpdm import cli
from fpdm.importing.layouts import Hints
from fpdm.runs.run import load_run
from tests.importing import foreign_checkpoints
from tests.oracle import authors

PIXELS = authors.Size(width=24, heads=3, patch=4, side=8, channels=1, out=2, classes=5, mlp=96)


def fpdm(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    checkpoint = foreign_checkpoints.training_checkpoint(foreign_checkpoints.fpdm(), foreign_checkpoints.namespace())
    return foreign_checkpoints.save(tmp_path / "fpdm.pt", checkpoint)


def test_every_option_reaches_the_conversion(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Imported:
        def to_text(self) -> str:
            return "done"

    seen: list[object] = []
    monkeypatch.setattr("fpdm.importing.foreign.read_foreign_checkpoint", lambda *args: seen.append(args) or "read")
    monkeypatch.setattr("fpdm.importing.layouts.convert", lambda *args: seen.append(args) or "converted")
    monkeypatch.setattr(
        "fpdm.importing.write.import_model", lambda *args, **named: seen.append((*args, named)) or Imported()
    )
    words = ("--weights", "model", "--autoencoder", "vae", "--heads", 3, "--timestep-everywhere")
    words = (*words, "--prediction", "epsilon", "--no-zero-terminal-snr")
    assert fpdm("import", "some/model.pt", "--out", tmp_path / "out", *words) == 0
    assert fpdm("import", "some/model.pt", "--out", tmp_path / "out") == 0
    assert seen == [
        ("some/model.pt", "model"),
        ("read", Hints(3, True, "epsilon", False)),
        ("read", "converted", tmp_path / "out", {"autoencoder": "vae"}),
        ("some/model.pt", "ema"),
        ("read", Hints()),
        ("read", "converted", tmp_path / "out", {"autoencoder": ""}),
    ]
    assert capsys.readouterr().out == "done\ndone\n"


def test_hints_are_in_the_imported_run(file: Path, tmp_path: Path) -> None:
    words = ("--heads", 3, "--timestep-everywhere", "--prediction", "epsilon", "--no-zero-terminal-snr")
    assert fpdm("import", file, "--out", tmp_path / "model", "--autoencoder", "some/vae", *words) == 0
    recipe = load_run(tmp_path / "model").recipe
    assert (recipe.model.heads, recipe.model.timestep_everywhere) == (3, True)
    assert (recipe.schedule.prediction, recipe.schedule.zero_terminal_snr) == ("epsilon", False)
    assert recipe.autoencoder.source == "some/vae"


def test_mistakes_leave_nothing(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    for words, says in (
        ((tmp_path / "none.pt",), "does not exist"),
        ((file,), "give --heads"),
        ((file, "--heads", 3, "--prediction", "x0"), "expected one of v, epsilon"),
        ((file, "--heads", 3, "--prediction", "epsilon", "--zero-terminal-snr"), "epsilon"),
    ):
        assert fpdm("import", *words, "--out", out) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
        assert not out.exists()


def test_an_imported_model_of_pixels_is_sampled_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = foreign_checkpoints.save(tmp_path / "a.pt", foreign_checkpoints.dit(3, PIXELS))
    assert fpdm("import", file, "--out", tmp_path / "model", "--heads", 3) == 0
    assert "latents" not in capsys.readouterr().out
    for sampler in ("ddim", "ddpm"):
        words = ("--budget", 9, "--sampler", sampler, "--guidance", 2, "--num-images", 2)
        assert fpdm("sample", tmp_path / "model", "--out", tmp_path / sampler, *words) == 0
        with Image.open(tmp_path / sampler / "000001.png") as image:
            assert image.size == (8, 8)


@pytest.mark.skipif(os.name == "nt", reason="limits of the size of files")
def test_a_full_disk_leaves_nothing_of_an_import_and_the_next_completes(file: Path, tmp_path: Path) -> None:
    code = """
import resource, sys
from fpdm.cli import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main())
"""
    out = tmp_path / "model"
    for limit in (1000, 10**7):
        words = [sys.executable, "-c", code, str(limit), "import", str(file), "--out", str(out), "--heads", "3"]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        if limit == 1000:
            *_, said = ended.stderr.splitlines()
            assert ended.returncode == 3
            assert said.startswith(f"fpdm: cannot write {out}")
            assert not out.exists()
    assert ended.returncode == 0
    assert load_run(out).recipe.model.heads == 3
