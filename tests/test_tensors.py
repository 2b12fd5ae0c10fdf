"""Safetensors files: read by their path's name, written with the permissions that the user wants."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from fpdm import tensors
from fpdm.tensors import check_weights, read_tensors, write_tensors

VALUES = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, VALUES, {"format": "pt"})
    found = read_tensors(path)
    assert found.keys() == VALUES.keys()
    assert all(torch.equal(found[name], VALUES[name]) for name in VALUES)
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "a.safetensors", VALUES)
        (tmp_path / "any").write_text("")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.safetensors", "any")}
    assert modes == {0o666 & ~umask}


def _header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        _header(b"[" * 50_000),
        _header(b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'),
        _header(b'{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}') + bytes(4),
        _header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}') + bytes(4),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as error:
        read_tensors(path)
    assert str(error.value).startswith(f"{path} is damaged: ")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a pipe; expected a file"):
        read_tensors(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none")


def test_an_error_of_the_system_is_an_oserror_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The safetensors library has a class of its own for a full disk."""

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_tensors(tmp_path / "a", VALUES)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_weights_are_real_numbers(dtype: torch.dtype) -> None:
    for good in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        check_weights(Path("m"), {"w": torch.zeros(2, dtype=good)})
    with pytest.raises(ValueError, match=f"m: w is {str(dtype)[6:]}; expected floating-point numbers"):
        check_weights(Path("m"), {"w": torch.zeros(2).to(dtype)})
