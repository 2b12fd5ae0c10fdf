"""Files are written whole or not at all, and a folder has one owner."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fpdm.files import cache_folder, lock, sha256_of, write_atomically


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    write_atomically(path, "grüße\n")
    assert path.read_bytes() == "grüße\n".encode()
    write_atomically(path, b"\xff\r\n")
    assert path.read_bytes() == b"\xff\r\n"
    assert [*tmp_path.iterdir()] == [path]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def full(self: Path, data: bytes) -> None:
        with self.open("wb") as stream:
            stream.write(data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new content")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("size", [0, 3, (1 << 20) + 1])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


HOLD = """
import sys
from pathlib import Path
from fpdm.files import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_held_by_another_process_is_refused_until_that_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "new")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(ValueError, match=f"new is in use by process {process.pid}; wait until"),
            lock(tmp_path / "new"),
        ):
            pass
        process.kill()
    with (
        pytest.warns(RuntimeWarning, match=f"was held by process {process.pid}, which is gone; taking it over"),
        lock(tmp_path / "new"),
    ):
        assert (tmp_path / "new" / ".holder").read_text() == f"process {os.getpid()}"


def test_a_lock_is_released_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock(tmp_path):
        raise KeyError
    with warnings.catch_warnings(), lock(tmp_path):
        warnings.simplefilter("error")
    assert not (tmp_path / ".holder").exists()


def test_the_cache_is_where_the_system_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fpdm"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("", None):
        if name is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", name)
        assert cache_folder() == tmp_path / "home" / ".cache" / "fpdm"
