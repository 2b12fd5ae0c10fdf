"""A training that is killed and resumed again and again has a log without gaps, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.long import endure
from tests.faults.world import make_sources


@pytest.mark.slow
def test_a_training_killed_again_and_again_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "")  # which is put back
    (tmp_path / "world").mkdir()
    found = endure(make_sources(tmp_path / "world"), tmp_path / "long", steps=300, kills=3, seconds_each=0.5)
    assert found.samples >= 1
    assert found.gaps == ()
    assert found.left == ()
    assert found.open_files[1] <= found.open_files[0]  # some of the start's may be closed late
