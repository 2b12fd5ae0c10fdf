"""Files are written whole or not at all, and a folder has one owner."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fpdm import __version__
from fpdm.files import (
    TEXT_LIMIT,
    cache_folder,
    check_regular,
    check_writable,
    is_temporary,
    lock,
    open_regular,
    read_bytes,
    read_dataclass,
    read_json,
    read_text,
    sha256_of,
    sweep,
    temporary_folder,
    write_atomically,
    write_json,
)


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    write_atomically(path, "grüße\n")
    assert path.read_bytes() == "grüße\n".encode()
    write_atomically(path, b"\xff\r\n")
    assert path.read_bytes() == b"\xff\r\n"
    assert [*tmp_path.iterdir()] == [path]


def test_json_says_which_version_wrote_it_and_no_reader_sees_that(tmp_path: Path) -> None:
    path, values = tmp_path / "a.json", {"seed": 1, "plan": {"fpdm": "inside"}}
    for content in (values, json.dumps(values)):
        write_json(path, content)
        assert [*json.loads(path.read_text()).items()] == [("fpdm", __version__), *values.items()]
        assert read_json(path) == values
    path.write_text('{"fpdm": "9.9.9", "seed": 1}')
    assert read_json(path) == {"seed": 1}
    path.write_text('{"fpdm": {"seed": 1}}')  # a key of the same name that is no version
    assert read_json(path) == {"fpdm": {"seed": 1}}


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


def test_what_killed_processes_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    kept = [".hidden", ".0123", "f" * 32, "below/.hidden"]
    for path in (*kept, f".{'a' * 32}/weights", f".{'b' * 32}", f"below/.{'c' * 32}/weights"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / f".{'d' * 32}").symlink_to(tmp_path / "below")
    with temporary_folder(tmp_path) as folder:
        assert is_temporary(folder)
        (folder / "weights").write_text("")
    sweep(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {*kept, "below", f".{'d' * 32}"}


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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON: Expecting value"),
        (b'{"a": 1', "is not JSON: Expecting"),
        (b"[" * 100_000, "is not JSON of ours: it is nested more than 32 levels deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "is not JSON of ours: it is nested more than 32 levels deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is not JSON: Exceeds the limit"),
        (b'{"a": {"b": 1, "b": 2}}', "gives the key 'b' twice; give it once"),
        (b'{"a": "\xff"}', "is no text in UTF-8: invalid start byte at byte 7"),
        (b"[1]", "holds an array; expected an object"),
        (b"null", "holds null; expected an object"),
        (b'"' + b"a" * 100 + b'"', "is larger than 0 MiB; expected a small file"),
    ],
)
def test_what_is_no_json_object_is_refused_by_its_path(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as error:
        read_json(path, limit=100 if b"aaa" in content else TEXT_LIMIT)
    assert str(error.value).startswith(f"{path} {says}")
    assert "\n" not in str(error.value)


def test_json_is_read_as_it_was_written_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    values = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + json.dumps(values, ensure_ascii=False).encode())
        assert read_json(path) == values
    path.write_text("[1]")
    assert read_json(path, list) == [1]
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


@dataclass(frozen=True)
class Card:
    name: str
    sizes: tuple[int, ...]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"name": "a"}', "it lacks sizes"),
        ('{"name": "a", "sizes": [], "colour": 1}', "it has an unknown key 'colour'"),
        ('{"name": 3, "sizes": []}', "name is 3; expected a text"),
        ('{"name": "a", "sizes": [1, "many"]}', "sizes is 'many'; expected an integer"),
        ('{"name": "a", "sizes": {"x": 1}}', "sizes is {'x': 1}; expected"),
    ],
)
def test_a_dataclass_of_other_types_is_refused_by_its_path(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "a", "sizes": [1, 2]}')
    assert read_dataclass(path, Card) == Card("a", (1, 2))
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {says}")):
        read_dataclass(path, Card)


READERS = {
    "read_json": read_json,
    "read_text": read_text,
    "open_regular": open_regular,
    "check_regular": check_regular,
    "sha256_of": sha256_of,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a socket", "a device"])
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path: Path, kind: str, reader: str) -> None:
    path = Path("/dev/zero") if kind == "a device" else tmp_path / "x"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    with socket.socket(socket.AF_UNIX) as stream:
        if kind == "a socket":
            stream.bind(str(path))
        with pytest.raises(ValueError, match=f"{path} is {kind}; expected a file"):
            READERS[reader](path)


@pytest.mark.parametrize("reader", READERS)
def test_a_link_is_followed_and_a_loop_of_links_is_an_error_of_the_system(tmp_path: Path, reader: str) -> None:
    (tmp_path / "a").write_text("{}")
    (tmp_path / "b").symlink_to("a")
    found = READERS[reader](tmp_path / "b")
    if reader == "check_regular":
        assert found == 2
    if reader == "open_regular":
        found.close()
    (tmp_path / "c").symlink_to("c")
    with pytest.raises(OSError, match="symbolic links"):
        READERS[reader](tmp_path / "c")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"", b"{}"])
def test_a_file_of_holes_is_not_read(tmp_path: Path, reader: str, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    os.truncate(path, 2**40)
    with pytest.raises(ValueError, match=f"{path} says it has {2**40} bytes, of which .* expected a whole file"):
        READERS[reader](path)
    os.truncate(path, 2**29)  # a small one does no harm
    assert check_regular(path) == 2**29


def test_without_a_home_the_user_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CACHE_HOME", "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user without a name
    with pytest.raises(ValueError, match="no home folder for cached files; set XDG_CACHE_HOME"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fpdm"


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from fpdm.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_atomically(Path(sys.argv[1]), "x" * 101)
except OSError as error:
    print(error.filename)
"""
    path = tmp_path / "file"
    said = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    assert said == f"{path}\n"
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that cannot be read at its start")
@pytest.mark.parametrize("reader", [lambda path: read_bytes(path, 10), sha256_of])
def test_errors_of_reading_name_the_file(reader: Callable[[Path], object]) -> None:
    with pytest.raises(OSError, match="Input/output error") as error:
        reader(Path("/proc/self/mem"))
    assert error.value.filename == "/proc/self/mem"


def test_files_can_be_made_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path, ["a", "none"])
    assert not [*tmp_path.iterdir()]
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="a is a folder; expected a file"):
        check_writable(tmp_path, ["a"])
    (tmp_path / "b").write_text("")
    with pytest.raises(ValueError, match="b cannot be written to: Not a directory; change its permissions"):
        check_writable(tmp_path / "b")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(OSError, match="No space left"):
        check_writable(tmp_path)
