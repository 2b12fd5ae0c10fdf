"""Reference statistics of a folder, of a data set and of an archive, against NumPy's mean and covariance."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.data import load, load_folder
from fpdm.evaluation.reference import read_reference
from fpdm.experiments.reference import ReferenceSettings, make_reference
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
    """Pieces of an interrupted call serve only if the images are the same."""
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


@pytest.mark.parametrize(
    "changes", [{"size": 0}, {"channels": 2}, {"split": "some"}, {"features": -1}, {"piece_size": 0}]
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        ReferenceSettings(**changes)  # type: ignore[arg-type]


def test_another_ending_is_refused(small: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends with \.npz"):
        make_reference("digits", tmp_path / "ref", ReferenceSettings(extractor=small))
