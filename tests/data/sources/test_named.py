"""Data sets by name: digits against scikit-learn's arrays, Fashion-MNIST against files written here byte by byte."""

import collections
import functools
import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from sklearn.datasets import load_digits

from fpdm.data.sources import named as sources
from fpdm.data.sources.named import load
from fpdm.files import cache_folder
from tests.data.sources.idx_files import idx

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_debian = pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's dataset-fashion-mnist is not installed")


def numbered(n):
    """Images that say in their first two pixels which they are, with labels 0..9 in turn."""
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
    return images, (np.arange(n) % 10).astype(np.uint8)


def write(folder, *, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(NAMES, [*numbered(60_000), *numbered(10_000)], strict=True):
        content = idx(values)
        path = folder / f"{name}.gz" if packed else folder / name
        path.write_bytes(gzip.compress(content, 1) if packed else content)
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return write(tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write(tmp_path_factory.mktemp("packed"), packed=True)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Neither Debian's package nor a cache."""
    monkeypatch.setattr(sources, "_DEBIAN", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def numbers(data):
    pixels = data.images[:, 0, 0, :2].int()  # (N, 2)
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def test_the_splits_of_digits_are_the_whole_and_share_nothing():
    original = load_digits()
    images = np.floor(original.images * 255 / 16 + 0.5).astype(np.uint8)  # (N, 8, 8)
    whole = collections.Counter((x.tobytes(), int(y)) for x, y in zip(images, original.target, strict=True))
    parts = [load("digits", split) for split in ("train", "validation", "test")]
    found = [
        collections.Counter((x.numpy().tobytes(), int(y)) for x, y in zip(p.images, p.labels, strict=True))
        for p in parts
    ]
    assert sum(found, collections.Counter()) == whole
    assert [len(part) for part in parts] == [1078, 269, 450]
    assert all(part.shape == (1, 8, 8) and part.num_classes == 10 for part in parts)


def test_each_class_of_digits_is_split_alike():
    of_class = np.bincount(load_digits().target)
    for split, share in (("train", 0.60), ("validation", 0.15), ("test", 0.25)):
        assert np.abs(np.bincount(load("digits", split).labels) - share * of_class).max() <= 1.0


def test_the_test_images_of_digits_are_the_same_for_ever():
    data = load("digits", "test")
    content = data.images.numpy().tobytes() + data.labels.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest() == "887f9fbb4e16553bf397a0d1f9ad1bff06ad7c579dd292637131cc7104f63218"


@pytest.mark.parametrize("folder", ["unpacked", "packed"])
def test_the_splits_of_fashion_mnist(folder, request):
    root = request.getfixturevalue(folder)
    for split, expected in (("train", range(55_000)), ("validation", range(55_000, 60_000)), ("test", range(10_000))):
        data = load("fashion-mnist", split, root=root)
        assert numbers(data) == list(expected)
        assert data.labels.tolist() == [i % 10 for i in expected]
        assert data.shape == (1, 28, 28)


@needs_debian
def test_the_real_fashion_mnist_has_its_published_mean_and_deviation():
    parts = [load("fashion-mnist", split, root=DEBIAN) for split in ("train", "validation")]
    counts = np.bincount(np.concatenate([part.images.numpy().ravel() for part in parts]), minlength=256)  # (256,)
    levels, shares = np.arange(256) / 255, counts / counts.sum()  # (256,), (256,)
    mean = (shares * levels).sum()
    assert mean == pytest.approx(0.2860, abs=5e-5)
    assert np.sqrt((shares * (levels - mean) ** 2).sum()) == pytest.approx(0.3530, abs=5e-5)
    assert torch.cat([part.labels for part in parts]).bincount().tolist() == [6000] * 10
    assert load("fashion-mnist", "test").labels.bincount().tolist() == [1000] * 10


def test_a_download_by_torchvision_arrives_whole_and_happens_once(alone, monkeypatch, packed):
    # The library's own download, from a server on this machine.
    hashes = [(f"{name}.gz", hashlib.md5((packed / f"{name}.gz").read_bytes()).hexdigest()) for name in NAMES]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", hashes)
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=packed)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [mirror])
        assert numbers(load("fashion-mnist", "validation")) == list(range(55_000, 60_000))
        server.shutdown()
    names = sorted(path.name for path in (cache_folder() / "fashion-mnist").iterdir())
    assert names == sorted(f"{name}.gz" for name in NAMES)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [])
    assert len(load("fashion-mnist", "test")) == 10_000


def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(alone, monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"{(tmp_path / 'nowhere').as_uri()}/"])
    with pytest.raises(ValueError, match=r"could not be downloaded.*Error downloading.*give that as root") as caught:
        load("fashion-mnist", "train")
    assert "\n" not in str(caught.value)
    assert not any((cache_folder() / "fashion-mnist").iterdir())


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("digit", "train", r"'digit' is unknown; expected one of digits, fashion-mnist; did you mean 'digits'\?"),
        ("fashion", "train", "did you mean 'fashion-mnist'"),
        ("cifar", "train", "expected one of digits, fashion-mnist$"),
        (
            "digits",
            "val",
            r"split 'val' is unknown; expected one of train, validation, test; did you mean 'validation'\?",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, split, message):
    with pytest.raises(ValueError, match=message):
        load(name, split)


def test_a_folder_without_the_files_is_named(tmp_path):
    (tmp_path / NAMES[0]).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{tmp_path} has no {NAMES[1]} and no {NAMES[2]}"):
        load("fashion-mnist", "train", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (NAMES[2], np.zeros((10_000, 28, 27), np.uint8), "holds 10000 x 28 x 27; expected 10000 x 28 x 28"),
        (NAMES[2], np.zeros((9_999, 28, 28), np.uint8), "holds 9999 x 28 x 28"),
        (NAMES[3], np.zeros(9_999, np.uint8), "holds 9999 labels; expected 10000"),
        (NAMES[3], np.full(10_000, 10, np.uint8), "holds the label 10; expected 0 to 9"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, unpacked, name, values, message):
    for other in NAMES:
        (tmp_path / other).symlink_to(unpacked / other)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(idx(values))
    with pytest.raises(ValueError, match=f"{name} {message}"):
        load("fashion-mnist", "test", root=tmp_path)
