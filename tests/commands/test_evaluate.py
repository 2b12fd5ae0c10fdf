"""`fpdm evaluate`: what is given arrives. What it measures: tests/fid/test_evaluation.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fpdm import cli
from fpdm.data.config import DataConfig
from fpdm.fid.settings import EvaluationSettings
from fpdm.sampling.defaults import ChosenPlan
from fpdm.sampling.plan import Plan


class Done:
    def to_text(self) -> str:
        return "FID 3.21"


@pytest.mark.parametrize(
    ("words", "autoencoder", "plan", "settings"),
    [
        ([], "", Plan(560), EvaluationSettings()),
        (
            ["--autoencoder", "vae", "--budget", "70", "--iterations", "3", "--num-images", "200", "--seed", "4"],
            "vae",
            Plan(70, 3),
            EvaluationSettings(num_images=200, seed=4),
        ),
    ],
    ids=["default", "given"],
)
def test_every_option_arrives(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    autoencoder: str,
    plan: Plan,
    settings: EvaluationSettings,
) -> None:
    seen: list[object] = []
    complete = lambda given: ChosenPlan(Plan(**given))  # noqa: E731
    run = SimpleNamespace(recipe=SimpleNamespace(data=DataConfig("digits")), complete=complete)
    monkeypatch.setattr("fpdm.runs.run.load_run", lambda *args, **named: seen.append((args, named)) or run)
    monkeypatch.setattr("fpdm.fid.evaluation.evaluate", lambda *args, overwrite: seen.append(args) or Done())
    common = ["evaluate", "run", "--reference", "ref.npz", "--out", str(tmp_path / "out")]
    assert cli.main([*common, *words]) == 0
    assert seen == [
        ((Path("run"),), {"autoencoder": autoencoder}),
        (run, plan, Path("ref.npz"), tmp_path / "out", settings),
    ]
    assert capsys.readouterr().out == "FID 3.21\n"
