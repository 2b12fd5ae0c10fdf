"""The programs in examples/ run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.trained import train_fpdm_and_dit

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_fpdm_and_dit(tmp_path_factory.mktemp("runs"))["fpdm"]


@pytest.mark.parametrize(
    ("name", "says", "images"),
    [
        ("pipeline", "20 steps, 140 block passes\nrelative change", [f"pipeline-{i}.png" for i in range(10)]),
        ("scheduler", "UniPCMultistepScheduler: 10 evaluations, 70 block passes", ["scheduler.png"]),
    ],
)
def test_an_example_runs(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    says: str,
    images: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, str(model)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert says in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {*images}
    assert all(Image.open(tmp_path / image).size == (8, 8) for image in images)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"pipeline", "scheduler"}
