"""Commands beside the reproduction end with it, and their failures are told."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from fpdm.errors import RunError
from fpdm.reproduce.bench import Bench, _Children
from fpdm.reproduce.models import FPDM, Training
from fpdm.reproduce.scale import QUICK


def test_a_command_that_fails_is_named_with_its_last_word(tmp_path: Path) -> None:
    with _Children() as children:
        script = "import sys; print('fpdm: the disk is full', file=sys.stderr); sys.exit(3)"
        children.start("x", [sys.executable, "-c", script], tmp_path / "x.txt")
        with pytest.raises(RunError, match=r"training x failed: the disk is full; its output is in .*x\.txt"):  # noqa: PT012
            while children.running:
                children.check()
                time.sleep(0.05)


def test_commands_are_stopped_at_the_end(tmp_path: Path) -> None:
    with _Children() as children:
        children.start("x", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "x.txt")
        child, _ = children.running["x"]
    assert child.poll() is not None


def test_what_is_not_there_is_not_trained(tmp_path: Path) -> None:
    bench = Bench(tmp_path, QUICK)
    assert not bench.is_trained(Training(FPDM, 0))
    assert bench.data.source == "digits"
    bench.train([])
    assert not [*tmp_path.iterdir()]
