"""Reference statistics of a folder, of a data set and of an archive, against NumPy's mean and covariance."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.loading import load_folder
from fpdm.data.prepare import prepare
from fpdm.data.sources import folder as folder_module
from fpdm.data.sources.folder import FolderFiles, scan
from fpdm.data.sources.named import load
from fpdm.fid import reference as module
from fpdm.fid.reference import make_reference
from fpdm.fid.settings import ReferenceSettings
from fpdm.fid.statistics import read_reference, write_reference
from fpdm.files import lock
from tests.autoencoders import tiny
from tests.evaluation.scripts import Small, saved

pytestmark = pytest.mark.filterwarnings("ignore:.*images for features")  # few, to be quick


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved(Small(), tmp_path_factory.mktemp("scripts") / "small.pt"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of different sizes in two classes, and two that are none."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for index in range(10):
        path = root / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(256, size=(9 + index, 12, 3), dtype=np.uint8)).save(path)
    (root / "a" / "5bad.png").write_text("no image")
    (root / "b" / "empty.jpg").touch()
    return root


def features(images: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) uint8 to (N, 6)."""
    with torch.no_grad():
        return Small()(images.expand(-1, 3, -1, -1)).double().numpy()


def check(path: Path, images: torch.Tensor) -> None:
    """That a reference is of these images (N, C, H, W)."""
    found, x = read_reference(path), features(images)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-4, atol=1e-8)
    assert found.origin is not None
    assert found.origin.images == len(images)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_is_read_in_pieces_and_bad_images_are_named(
    folder: Path, small: str, tmp_path: Path, channels: int
) -> None:
    settings = ReferenceSettings(size=8, channels=channels, extractor=small, piece_size=3, batch_size=2, features=4)
    made = make_reference(str(folder), tmp_path / "ref.npz", settings)
    images = load_folder(folder, 8, channels=channels).data.images  # (N, C, 8, 8)
    check(tmp_path / "ref.npz", images)
    assert made is not None
    assert [path for path, _ in made.skipped] == ["a/5bad.png", "b/empty.jpg"]
    assert (tmp_path / "ref.skipped.txt").read_text().count("\n") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"ref.npz", "ref.skipped.txt"}
    kept = read_reference(tmp_path / "ref.npz").features
    assert kept is not None
    np.testing.assert_allclose(kept, features(images)[[0, 2, 5, 7]], rtol=1e-4, atol=1e-6)  # spread over all
    assert made.origin.channels == channels
    assert "2, listed in ref.skipped.txt" in made.to_text()


def test_strict_names_the_first_bad_image(folder: Path, small: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a/5bad\.png"):
        make_reference(str(folder), tmp_path / "ref.npz", ReferenceSettings(size=8, extractor=small, strict=True))


@pytest.mark.parametrize("split", ["all", "validation"])
def test_a_data_set_by_name(small: str, tmp_path: Path, split: str) -> None:
    make_reference("digits", tmp_path / "ref.npz", ReferenceSettings(split=split, extractor=small, features=0))
    names = ("train", "validation", "test") if split == "all" else (split,)
    check(tmp_path / "ref.npz", torch.cat([load("digits", name).images for name in names]))
    assert read_reference(tmp_path / "ref.npz").features is None


def test_an_archive(small: str, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    np.savez(tmp_path / "images.npz", images.numpy().transpose(0, 2, 3, 1).copy())
    settings = ReferenceSettings(extractor=small, piece_size=4)
    make_reference(str(tmp_path / "images.npz"), tmp_path / "ref.npz", settings)
    check(tmp_path / "ref.npz", images)


def test_a_changed_folder_is_read_again(folder: Path, small: str, tmp_path: Path) -> None:
    """Shards of an interrupted call serve only if the images are the same."""
    images = tmp_path / "images"
    shutil.copytree(folder, images)
    settings = ReferenceSettings(size=8, extractor=small, piece_size=4, strict=True)
    with pytest.raises(ValueError, match="5bad"):
        make_reference(str(images), tmp_path / "ref.npz", settings)
    for bad in ("a/5bad.png", "b/empty.jpg"):
        (images / bad).unlink()
    shutil.copy(images / "a" / "0.png", images / "a" / "2.png")
    make_reference(str(images), tmp_path / "ref.npz", settings)
    check(tmp_path / "ref.npz", load_folder(images, 8).data.images)


def test_one_at_a_time_from_the_first_piece_to_the_last_word(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings = tmp_path / "ref.npz", ReferenceSettings(extractor=small)
    busy = tmp_path / "ref.npz.pieces"
    pool = ThreadPoolExecutor(1)  # a thread is as foreign to a lock as a process
    with lock(busy), pytest.raises(ValueError, match="is in use by process"):
        pool.submit(make_reference, "digits", out, settings).result()

    def writing(*args: Any) -> None:
        with pytest.raises(ValueError, match="is in use by process"):
            pool.submit(lock(busy).__enter__).result()
        write_reference(*args)

    monkeypatch.setattr(module, "write_reference", writing)
    make_reference("digits", out, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["ref.npz"]


def test_what_is_finished_is_not_made_again(
    folder: Path, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = tmp_path / "images", tmp_path / "ref.npz"
    shutil.copytree(folder, images)
    settings = ReferenceSettings(size=8, extractor=small, features=4)
    first = make_reference(str(images), out, settings)
    assert first is not None
    with monkeypatch.context() as patch:
        patch.setattr(module, "extract_features", lambda *_, **__: pytest.fail("made again"))
        again = make_reference(str(images), out, settings)
    assert again == replace(first, made=False)
    assert again is not None
    assert "nothing left to do" in again.to_text()
    assert "nothing left to do" not in first.to_text()
    with pytest.raises(ValueError, match="5bad"):
        make_reference(str(images), out, replace(settings, strict=True))
    more = make_reference(str(images), out, replace(settings, features=5))
    assert more is not None
    assert (more.made, more.features) == (True, 5)
    content = out.read_bytes()
    out.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    for _ in range(2):  # damaged, then of other images
        with pytest.raises(ValueError, match=r"ref\.npz exists already; .* --overwrite"):
            make_reference(str(images), out, settings)
        mended = make_reference(str(images), out, settings, overwrite=True)
        assert mended is not None
        assert mended.made
        (images / "a" / "0.png").unlink(missing_ok=True)
    check(out, load_folder(images, 8).data.images)


def test_moved_images_and_a_renamed_extractor_are_the_same(folder: Path, small: str, tmp_path: Path) -> None:
    settings, out = ReferenceSettings(size=8, extractor=small), tmp_path / "ref.npz"
    make_reference(str(folder), out, settings)
    content, network = out.read_bytes(), tmp_path / "other.pt"
    there = str(shutil.copytree(folder, tmp_path / "there"))
    shutil.copy(small, network)
    found = make_reference(there, out, replace(settings, extractor=str(network)))
    assert found is not None
    assert not found.made
    assert out.read_bytes() == content
    saved(Small(1), network)
    with pytest.raises(ValueError, match="exists already"):
        make_reference(there, out, replace(settings, extractor=str(network)))


def test_the_list_of_skipped_files_goes_with_its_reference(folder: Path, small: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(folder, images)
    settings = ReferenceSettings(size=8, extractor=small)
    make_reference(str(images), tmp_path / "ref.npz", settings)
    assert (tmp_path / "ref.skipped.txt").exists()
    for bad in ("a/5bad.png", "b/empty.jpg"):
        (images / bad).unlink()
    made = make_reference(str(images), tmp_path / "ref.npz", settings, overwrite=True)
    assert made is not None
    assert not made.skipped
    assert not (tmp_path / "ref.skipped.txt").exists()


def test_a_file_that_vanishes_is_skipped(
    folder: Path, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    shutil.copytree(folder, images)

    def scanning(path: Path) -> FolderFiles:
        found = scan(path)
        (path / "a" / "2.png").unlink()
        return found

    monkeypatch.setattr(folder_module, "scan", scanning)
    made = make_reference(str(images), tmp_path / "ref.npz", ReferenceSettings(size=8, extractor=small))
    assert made is not None
    assert made.skipped[0] == ("a/2.png", "vanished while the folder was read")
    check(tmp_path / "ref.npz", load_folder(images, 8).data.images)


def test_without_a_good_image_the_first_reason_is_given(small: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_text("no image")
    (tmp_path / "images" / "2.png").touch()
    with pytest.raises(ValueError, match=r"0 images.*; 2 skipped, the first: 1\.png: not an image in a format"):
        make_reference(str(tmp_path / "images"), tmp_path / "ref.npz", ReferenceSettings(size=8, extractor=small))


@pytest.mark.slow
def test_two_processes_stop_at_a_signal_and_one_goes_on(small: str, tmp_path: Path) -> None:
    pieces = tmp_path / "ref.npz.pieces" / "features"
    words = ["reference", "digits", "--extractor", small, "--out", tmp_path / "ref.npz", "--piece-size", "1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "fpdm"]
    begun = subprocess.Popen(
        [*launcher, *map(str, words)],
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not pieces.exists() or len([*pieces.iterdir()]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    begun.send_signal(signal.SIGTERM)
    _, said = begun.communicate(timeout=100)
    # One is enough: the launcher's second signal may end the other before it has its say.
    assert "fpdm: stopped by SIGTERM" in said
    assert "fault" not in said
    count = len([*pieces.iterdir()])
    assert 3 <= count < 1797
    made = make_reference("digits", tmp_path / "ref.npz", ReferenceSettings(extractor=small, piece_size=1))
    assert made is not None
    check(tmp_path / "ref.npz", torch.cat([load("digits", name).images for name in ("train", "validation", "test")]))


@pytest.mark.parametrize(
    "changes", [{"size": 0}, {"channels": 2}, {"split": "some"}, {"features": -1}, {"piece_size": 0}]
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        ReferenceSettings(**changes)  # type: ignore[arg-type]


def test_another_ending_is_refused(small: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends with \.npz"):
        make_reference("digits", tmp_path / "ref", ReferenceSettings(extractor=small))


def test_an_archive_beside_images_does_not_replace_them(small: str, tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for index in range(4):
        Image.new("RGB", (8, 8), (60 * index, 0, 0)).save(folder / f"{index}.png")
    with tarfile.open(folder / "backup.tar", "w") as archive:
        archive.add(folder / "0.png", "0.png")
        archive.add(folder / "1.png", "1.png")
    made = make_reference(str(folder), tmp_path / "ref.npz", ReferenceSettings(size=8, extractor=small))
    assert made is not None
    assert made.origin.images == 4


def test_a_split_without_images_is_named_before_the_extractor_is_loaded(tmp_path: Path) -> None:
    for index in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    settings = ReferenceSettings(size=8, split="test", extractor="missing")
    with pytest.raises(ValueError, match=r"the test images of .* are 0; expected 2 or more"):
        make_reference(str(tmp_path), tmp_path / "ref.npz", settings)


def test_a_split_of_a_cache_that_was_split_otherwise_is_refused(folder: Path, tmp_path: Path) -> None:
    tiny(tmp_path / "vae", channels=3, scaling_factor=1.0)
    autoencoder = AutoencoderConfig(str(tmp_path / "vae")).load()
    for name, holdout in (("own", None), ("all", 0)):
        prepare(DataConfig(str(folder), size=8), autoencoder, tmp_path / name, CacheSettings(holdout=holdout))
    settings = ReferenceSettings(size=8, split="test", extractor="missing")
    with pytest.raises(ValueError, match="was not split as fpdm train splits a folder"):
        make_reference(str(tmp_path / "all"), tmp_path / "ref.npz", settings)
    with pytest.raises(ValueError, match="there is no extractor missing"):  # it goes on to the extractor
        make_reference(str(tmp_path / "own"), tmp_path / "ref.npz", settings)


def test_a_file_called_as_those_of_a_saved_data_set_does_not_replace_images(small: str, tmp_path: Path) -> None:
    for index in range(4):
        Image.new("RGB", (8, 8), (60 * index, 0, 0)).save(tmp_path / f"{index}.png")
    (tmp_path / "state.json").write_text("{}")
    made = make_reference(str(tmp_path), tmp_path / "out" / "ref.npz", ReferenceSettings(size=8, extractor=small))
    assert made is not None
    assert made.origin.images == 4


def test_files_of_the_user_are_never_replaced_unless_asked_for(folder: Path, small: str, tmp_path: Path) -> None:
    settings = ReferenceSettings(size=8, extractor=small)
    out, listed = tmp_path / "ref.npz", tmp_path / "ref.skipped.txt"
    for mine in (out, listed):
        mine.write_text("mine")
        with pytest.raises(ValueError, match=f"{mine.name} exists already; choose another name"):
            make_reference(str(folder), out, settings)
        assert [path.name for path in tmp_path.iterdir()] == [mine.name]
        assert mine.read_text() == "mine"
        mine.unlink()
    np.savez(out, arr_0=np.zeros((3, 8, 8, 3), np.uint8))
    before = out.read_bytes()
    with pytest.raises(ValueError, match="is the file that the images are read from"):
        make_reference(str(out), out, settings, overwrite=True)
    assert out.read_bytes() == before
