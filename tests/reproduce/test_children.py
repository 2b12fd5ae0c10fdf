"""Commands beside the reproduction end with it, and their failures are told."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from fpdm.errors import RunError
from fpdm.reproduce.children import Children, run_command


def test_a_command_that_fails_is_named_with_its_last_word(tmp_path: Path) -> None:
    script = "import sys; print('fpdm: the disk is full', file=sys.stderr); sys.exit(3)"
    with pytest.raises(RunError, match=r"training x failed: the disk is full; its output is in .*x\.txt"):
        run_command([sys.executable, "-c", script], tmp_path / "x.txt", threads=1)


def test_commands_that_end_are_told_once(tmp_path: Path) -> None:
    with Children() as children:
        children.start("x", [sys.executable, "-c", "print(1)"], tmp_path / "x.txt")
        while not (ended := children.ended()):
            time.sleep(0.05)
        assert (ended, children.ended(), children.running) == ({"x": ""}, {}, {})


def test_commands_are_stopped_at_the_end(tmp_path: Path) -> None:
    with Children() as children:
        children.start("x", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "x.txt")
        child, _ = children.running["x"]
    assert child.poll() is not None
