"""Commands that are killed at random moments end, when they are given again, as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kills import LINES, Killer, first_difference


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_killed_command_ends_as_an_undisturbed_one(name: str, world: Path, tmp_path: Path) -> None:
    killer = Killer(LINES[name], world, tmp_path, seed=1)
    found = killer.trial(2)
    assert found.code == 0, killer.log.read_text()[-500:]
    assert found.same, first_difference(killer)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "prepare", "sample", "evaluate"])
def test_two_at_once_end_as_one(name: str, world: Path, tmp_path: Path) -> None:
    killer = Killer(LINES[name], world, tmp_path, seed=2)
    codes, same = killer.together()
    assert codes[0] in (0, 2)  # the second may have come first, or been refused
    assert codes[1] == 0
    assert same, first_difference(killer)
