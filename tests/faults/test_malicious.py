"""No file runs code, and none takes more than ten seconds or a gigabyte before it is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.cases import Case
from tests.faults.malicious import BYTES, CANARY, FILES, tried
from tests.faults.world import fingerprint


@pytest.mark.parametrize("case", FILES, ids=[case.name for case in FILES])
def test_a_malicious_file_is_refused(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    here = tmp_path / "here"
    here.mkdir()
    assert case.setup is not None
    case.setup(here, world)
    before = fingerprint(here)
    code, said, peak = tried(case, world, here)
    lines = [line for line in said.splitlines() if not line.startswith("fpdm: warning: ")]
    assert not [*tmp_path.rglob(CANARY)], "the file's code ran"
    assert code == case.code, said
    assert len(lines) == 1
    assert re.search(case.says, lines[0])
    assert "fault of fpdm" not in lines[0]
    assert "out of memory" not in lines[0]
    assert peak < BYTES
    assert fingerprint(here) == before


def test_these_files_would_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    from tests.faults.malicious import Evil

    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil()))  # noqa: S301
    assert (tmp_path / CANARY).is_dir()
