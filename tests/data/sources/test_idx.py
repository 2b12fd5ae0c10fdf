"""IDX files against files written byte by byte."""

import gzip
import os

import numpy as np
import pytest

from fpdm.data.sources import idx as module
from fpdm.data.sources.idx import read_idx
from tests.data.sources.idx_files import idx

WHOLE = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


def test_an_idx_file_is_read_as_it_was_written(tmp_path):
    (tmp_path / "f").write_bytes(WHOLE)
    (tmp_path / "f.gz").write_bytes(gzip.compress(WHOLE))
    for name in ("f", "f.gz"):
        np.testing.assert_array_equal(read_idx(tmp_path / name, 3), np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f", WHOLE[:-1], "truncated: 23 bytes of values, where its header says 2 x 3 x 4 = 24"),
        ("f", WHOLE + b"x", "too long: 25 bytes"),
        ("f", WHOLE[:15], "truncated: 15 bytes, where its header alone has 16"),
        ("f", b"", "truncated: 0 bytes"),
        ("f", idx(np.zeros(20, np.uint8)), "starts with 00 00 08 01; expected 00 00 08 03"),
        ("f", b"\x89PNG" + WHOLE, "starts with 89 50 4e 47"),
        ("f", b"\0\0\x08\x03" + b"\xff" * 12, "truncated: 0 bytes of values"),
        ("f.gz", gzip.compress(WHOLE)[:-9], "cannot be read"),
        ("f.gz", gzip.compress(WHOLE)[:10] + b"\xff" * 20, "cannot be read"),
        ("f.gz", WHOLE, "cannot be read"),
        ("f", None, "cannot be read"),
    ],
    ids=range(11),  # not made of the bytes: gzip writes the time among them
)
def test_a_damaged_idx_file_is_named_with_its_damage(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} .*{message}"):
        read_idx(path, 3)


def test_an_idx_file_of_absurd_size_or_kind_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 100)
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(bytes(101)))
    with pytest.raises(ValueError, match=r"f\.gz holds more than 100 bytes"):
        read_idx(path, 3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a pipe; expected a file"):
        read_idx(tmp_path / "pipe", 3)
