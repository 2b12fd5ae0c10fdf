"""How long the processes of an evaluation or a reference wait for each other."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import fpdm
from fpdm.fid.evaluation import evaluate
from fpdm.fid.reference import make_reference
from fpdm.fid.settings import EvaluationSettings, ReferenceSettings
from fpdm.processes import any_process, gather, local_processes


class Joined(Exception):
    """Raised in the place of a start."""


@pytest.mark.parametrize(
    "begin",
    [
        lambda: evaluate(None, None, Path("ref.npz"), Path("out"), EvaluationSettings()),  # type: ignore[arg-type]
        lambda: make_reference("digits", Path("ref.npz"), ReferenceSettings()),
    ],
)
def test_they_wait_longer_than_a_piece_of_a_large_model_takes(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*, timeout: timedelta, **_: Any) -> None:
        assert timeout > timedelta(days=1)
        raise Joined

    monkeypatch.setattr("accelerate.PartialState", start)
    with pytest.raises(Joined):
        begin()


def test_alone_values_are_gathered_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gather([3.0, 0.5]).tolist() == [[3.0, 0.5]]
    assert any_process(True)
    assert not any_process(False)
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert local_processes() == (2, 4)


def test_only_one_module_reads_the_launchers_variables() -> None:
    root = Path(fpdm.__file__).parent
    reading = [
        path for path in root.rglob("*.py") if "LOCAL_RANK" in path.read_text() or "WORLD_SIZE" in path.read_text()
    ]
    assert reading == [root / "processes.py"]
