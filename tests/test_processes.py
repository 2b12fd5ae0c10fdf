"""How long the processes of an evaluation or a reference wait for each other."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fpdm.fid.evaluation import evaluate
from fpdm.fid.reference import make_reference
from fpdm.fid.settings import EvaluationSettings, ReferenceSettings


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
