"""The `.npz` of ADM's suite, against NumPy's own reading and writing."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.fid.npz import ImageArchive, array_digest, open_npz, write_images

IMAGES = torch.randint(0, 256, (11, 3, 4, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_numpy_reads_what_is_written_in_parts(tmp_path: Path) -> None:
    write_images(tmp_path / "a.npz", IMAGES.split(4), 11, (4, 6))
    with np.load(tmp_path / "a.npz") as file:
        assert [*file] == ["arr_0"]
        assert file["arr_0"].dtype == np.uint8
        np.testing.assert_array_equal(file["arr_0"], IMAGES.numpy().transpose(0, 2, 3, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_grey_becomes_three_channels(tmp_path: Path) -> None:
    write_images(tmp_path / "a.npz", [IMAGES[:, :1]], 11, (4, 6))
    with np.load(tmp_path / "a.npz") as file:
        found = file["arr_0"]  # (N, H, W, 3)
    assert found.shape == (11, 4, 6, 3)
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], IMAGES[:, 0].numpy())


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read_in_parts(tmp_path: Path, write) -> None:
    write(tmp_path / "a.npz", IMAGES.numpy().transpose(0, 2, 3, 1).copy(), mu=np.zeros(3))
    archive = ImageArchive(tmp_path / "a.npz")
    assert len(archive) == 11
    assert torch.equal(archive.read(range(3, 9)), IMAGES[3:9])
    assert torch.equal(archive.read(range(11)), IMAGES)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def parts():
        yield IMAGES
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_images(tmp_path / "a.npz", parts(), 22, (4, 6))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("array", [np.zeros((2, 4, 4, 3)), np.zeros((2, 3, 4, 4), np.uint8), np.zeros(3, np.uint8)])
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(ValueError, match="expected uint8"):
        ImageArchive(tmp_path / "a.npz")


def test_damage_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", mu=np.zeros(3))
    for name in ("text.npz", "other.npz", "missing.npz"):
        with pytest.raises(ValueError, match="holds no images"):
            ImageArchive(tmp_path / name)
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", IMAGES.numpy().transpose(0, 2, 3, 1).copy())
        archive = ImageArchive(tmp_path / "a.npz")
        content = bytearray((tmp_path / "a.npz").read_bytes())
        content[59] = 0xFF  # the first byte, stored or compressed
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            archive.read(range(11))


ARRAYS = {
    "a": np.arange(12.0).reshape(3, 4),
    "b": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "c": np.float32(2.5),
    "d": np.arange(3, dtype=">f8"),
    "e": np.zeros((0, 3)),
}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_numbers_are_those_that_numpy_reads(tmp_path: Path, write) -> None:
    write(tmp_path / "a.npz", **ARRAYS, text=np.array("häuser"))
    with open_npz(tmp_path / "a.npz") as file, np.load(tmp_path / "a.npz") as expected:
        assert file.names == {*expected}
        assert file.text("text") == "häuser"
        for name in ARRAYS:
            np.testing.assert_array_equal(file.numbers(name), expected[name].astype(np.float64))
        assert file.digests["a"] == array_digest(ARRAYS["a"])
        assert len({*file.digests.values()}) == 6


def _npy(header: bytes, version: int = 2) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<I" if version > 1 else "<H", len(header)) + header


def _zip(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)


HEAD = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }\n"
HOSTILE = {
    "a header of 1 GB": ((_npy(b"")[:8] + struct.pack("<I", 2**30) + bytes(100)), "has 1073741824 bytes; expected"),
    "deep brackets": (_npy(b"(" * 9000), "the header of its a is damaged"),
    "a call": (_npy(b"__import__('os').system('touch /tmp/x')\n"), "the header of its a is damaged"),
    "objects": (_npy(HEAD.replace(b"<f8", b"|O") % b"1") + bytes(8), "is object .*; expected numbers"),
    "negative": (_npy(HEAD % b"-1") + bytes(8), r"\(-1,\); expected numbers"),
    "too short": (_npy(HEAD % b"3") + bytes(16), "has 16 bytes; expected 24 by its header"),
    "too long": (_npy(HEAD % b"1") + bytes(16), "has 16 bytes; expected 8 by its header"),
    "huge": (_npy(HEAD % (b"9" * 30)) + bytes(16), "has 16 bytes; expected 799"),
    "no array": (b"text", "is no array of NumPy's"),
    "records": (_npy(HEAD.replace(b"'<f8'", b"[('x', '<f8')]") % b"1") + bytes(8), "expected numbers"),
    "no bytes": (_npy(HEAD.replace(b"<f8", b"|S0") % b"1000000000"), "expected numbers"),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays_are_refused(tmp_path: Path, name: str, method: int) -> None:
    content, says = HOSTILE[name]
    _zip(tmp_path / "a.npz", ("a.npy", content), method=method)
    with pytest.raises(ValueError, match=says), open_npz(tmp_path / "a.npz") as file:
        file.numbers("a")


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    path, good = tmp_path / "a.npz", io.BytesIO()
    np.save(good, np.zeros(3))

    def refused(says: str) -> None:
        with pytest.raises(ValueError, match=says), open_npz(path) as file:
            file.numbers("a")

    with pytest.warns(UserWarning, match="Duplicate name"):
        _zip(path, ("a.npy", good.getvalue()), ("a.npy", good.getvalue()))
    refused("two arrays have the same name")
    _zip(path, ("a.npy", good.getvalue()), method=zipfile.ZIP_LZMA)
    refused("packed by method 14; expected none, or deflate")
    _zip(path, ("b.npy", good.getvalue()))
    refused("it has no a")
    _zip(path, *((f"{number}.npy", b"") for number in range(20_000)))  # a directory of over 1 MB
    refused(r"its directory says it has \d+ bytes; expected at most")
    _zip(path, ("a.npy", good.getvalue()), ("b.npy", good.getvalue()))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + 32
    content[place : place + 2] = b"\xff\x0f"  # the first entry's comment swallows the second
    path.write_bytes(content)
    refused("its directory lists 2 arrays and has 1")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ValueError, match=f"is a {name}; expected a file"):
            ImageArchive(tmp_path / f"{name}.npz")


def test_a_changed_byte_of_an_image_is_noticed_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_images(path, IMAGES.split(4), 11, (4, 6))
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="holds no images: Bad CRC-32"):
        ImageArchive(path)


def test_images_of_absurd_sizes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((1, 1, 10_000, 3), np.uint8))
    with pytest.raises(ValueError, match=r"is uint8 \(1, 1, 10000, 3\); expected at most 8192 pixels a side"):
        ImageArchive(tmp_path / "a.npz")
