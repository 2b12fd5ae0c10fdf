"""The `.npz` of ADM's suite, against NumPy's own reading and writing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.fid.npz import ImageArchive, write_images

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
