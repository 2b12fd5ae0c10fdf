"""Every mistake is told in a short line with its exit code, at once, and nothing is left or changed by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cases import Case, every
from tests.faults.world import called, fingerprint, limited, words_of


@pytest.fixture(scope="session")
def untouched(world: Path) -> dict[str, str]:
    return fingerprint(world)


def _params() -> Iterator[Any]:
    for number, case in enumerate(every()):
        longer = case.setup is not None and number % 3  # of which the quick tests have one of three
        yield pytest.param(case, id=case.name, marks=[pytest.mark.slow] if longer else [])


@pytest.mark.parametrize("case", [*_params()])
def test_a_mistake_is_one_short_line_and_leaves_everything_as_it_was(
    case: Case, world: Path, untouched: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    for folder in (here, home, home / "tmp"):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if case.setup is not None:
        case.setup(here, world)
    monkeypatch.chdir(here)
    before = fingerprint(tmp_path)
    with limited(seconds=10, waiting=60):
        said = called(words_of(case.line, world))
    lines = [line for line in said.err.splitlines() if not line.startswith("fpdm: warning: ")]
    assert len(lines) == 1, said
    (line,) = lines
    assert said.code == case.code, said
    assert line.startswith("fpdm: ")
    assert len(line) <= 200
    assert "fault of fpdm" not in line
    assert re.search(case.says, line), line
    assert not said.out
    cache = str(home / ".cache")  # of the library datasets, which opens tables
    assert {path: found for path, found in fingerprint(tmp_path).items() if not path.startswith(cache)} == before
    assert fingerprint(world) == untouched
