"""Full disks, vanished folders and bare environments: one line, and nothing that the next call cannot go on from."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import fpdm
from tests.faults.crashes import result
from tests.faults.kills import forked, waited
from tests.faults.world import COMMANDS, called, words_of


def with_files_of(limit: int, words: list[str], log: Path) -> int:
    """Call a command that cannot write a file of more bytes than this, as on a full disk; returns the exit code."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    return waited(forked(words, log, partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, most))))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_said_and_the_next_call_goes_on(name: str, world: Path, tmp_path: Path) -> None:
    out = tmp_path / ("out.npz" if name == "ref.npz" else "out")
    words = [*words_of(COMMANDS[name], world), "--out", str(out)]
    for limit in (600, 3000):
        log = tmp_path / f"{limit}.log"
        code = with_files_of(limit, words, log)
        if code == 0:
            continue  # all its files are smaller
        lines = [line for line in log.read_text().splitlines() if line.startswith("fpdm: ") and "warning" not in line]
        assert code == 3, lines
        assert len(lines) == 1
        assert re.search("File too large|cannot save", lines[0])
        assert "fault of fpdm" not in lines[0]
    said = called(words)
    assert said.code == 0, said.err
    undisturbed = tmp_path / "undisturbed" / out.name
    said = called([*words[:-1], str(undisturbed)])
    assert said.code == 0, said.err
    if out.is_dir():
        assert result(out) == result(undisturbed)
    else:
        assert out.read_bytes() == undisturbed.read_bytes()


def vanish(folder: Path) -> None:
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()


def test_a_vanished_working_folder_is_one_line(world: Path, tmp_path: Path) -> None:
    log, words = tmp_path / "log", words_of(f"{COMMANDS['sampled']} --out out", world)
    code = waited(forked(words, log, partial(vanish, tmp_path / "gone")))
    assert code == 2, log.read_text()
    (line,) = log.read_text().splitlines()
    assert "fault of fpdm" not in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONOPTIMIZE": "2"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/dev/null"},
        {"TMPDIR": "/nonexistent"},
        {"COLUMNS": "0", "LINES": "x"},
        {},
    ],
    ids=str,
)
def test_bare_environments_change_nothing(environment: dict[str, str], world: Path, tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(fpdm.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    out = "bilder" if environment.get("PYTHONUTF8") == "0" else "bilder-\xe4"  # whose bytes are no text there
    for words, code, says in (
        (["sample", str(tmp_path / "none"), "--out", str(tmp_path / "out")], 2, "there is no model"),
        (words_of(f"{COMMANDS['sampled']} --out {out}", world), 0, ""),
    ):
        command = [sys.executable, "-m", "fpdm", *words]
        done = subprocess.run(
            command, env={**bare, **environment}, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert "fault of fpdm" not in done.stderr
    assert result(tmp_path / out) == result(world / "sampled")
