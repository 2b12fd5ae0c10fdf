"""Reference files: ours come back whole, ADM's are taken for Inception's, and no other extractor's statistics pass."""

import json
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.evaluation.frechet import GaussianStatistics
from fpdm.evaluation.pretrained import PUBLISHED, PretrainedExtractor
from fpdm.fid import statistics
from fpdm.fid.npz import ImageArchive
from fpdm.fid.statistics import Origin, read_reference, write_reference
from tests.evaluation.features import RNG, correlated, features
from tests.fid.bombs import add_zeros

SMALL = PretrainedExtractor("small.pt", "a" * 64, "none", lambda x: x, torch.device("cpu"))
INCEPTION = replace(SMALL, name="Inception", sha256=PUBLISHED + "0" * 56)
ORIGIN = Origin("photographs", "all", 50, 8, 3, "middle square, Lanczos", SMALL.identity)
MADE = features(correlated(RNG(0), 50, 4), SMALL.identity)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    write_reference(tmp_path / "ours.npz", GaussianStatistics.of(MADE), MADE, ORIGIN)
    return tmp_path / "ours.npz"


@pytest.fixture
def adms(tmp_path: Path) -> Path:
    x, images = MADE.values.numpy(), np.zeros((5, 8, 8, 3), np.uint8)
    arrays = {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False), "mu_s": np.zeros(3), "sigma_s": np.eye(3)}
    np.savez(tmp_path / "adm.npz", images, **arrays)
    return tmp_path / "adm.npz"


def test_ours_comes_back_whole(ours: Path) -> None:
    found = read_reference(ours)
    of = found.statistics(SMALL)
    np.testing.assert_allclose(of.mean, MADE.values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(of.covariance, np.cov(MADE.values.numpy(), rowvar=False), rtol=1e-10)
    assert (of.n, of.extractor, found.origin, found.archive) == (50, SMALL.identity, ORIGIN, None)
    assert found.features is not None
    np.testing.assert_allclose(found.features, MADE.values, rtol=1e-6)
    with np.load(ours) as file:  # as others read it
        assert (file["mu"].dtype, file["sigma"].dtype) == (np.float64, np.float64)
        assert (file["mu"].shape, file["sigma"].shape) == ((4,), (4, 4))


def test_adms_is_taken_for_inceptions(adms: Path) -> None:
    found = read_reference(adms)
    assert found.archive is not None
    assert (len(found.archive), found.features, found.origin) == (5, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of = found.statistics(INCEPTION)
    assert (of.n, of.extractor) == (None, INCEPTION.identity)
    with pytest.raises(ValueError, match="Inception's are assumed, but the extractor is small"):
        found.statistics(SMALL)
    with pytest.warns(UserWarning, match=PUBLISHED):
        found.statistics(replace(INCEPTION, sha256="b" * 64))


def test_another_extractors_are_refused(ours: Path) -> None:
    for other in (INCEPTION, replace(SMALL, sha256="b" * 64)):
        with pytest.raises(ValueError, match="has statistics of small"):
            read_reference(ours).statistics(other)


GOOD = {"mu": np.zeros(3), "sigma": np.eye(3)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(3)}, "it holds mu"),
        ({**GOOD, "sigma": np.eye(4)}, r"sigma \(4, 4\)"),
        ({**GOOD, "mu": np.zeros((3, 1))}, r"mu \(3, 1\)"),
        ({**GOOD, "mu": np.array([0, np.nan, 0])}, "nan"),
        ({**GOOD, "sigma": np.eye(3) + np.eye(3, k=1)}, "not symmetric"),
        ({**GOOD, "mu": np.array([{}, {}, {}])}, "no reference"),  # objects, which only unpickling would read
        ({**GOOD, "origin": np.array("{}")}, "no reference"),
        ({**GOOD, "origin": np.array(json.dumps({**asdict(ORIGIN), "images": "50"}))}, "images is '50'; expected int"),
        ({**GOOD, "origin": np.array(json.dumps({**asdict(ORIGIN), "split": None}))}, "split is None; expected str"),
        ({**GOOD, "features": np.zeros((5, 2))}, r"features \(5, 2\)"),
        ({**GOOD, "features": np.array([[0, 0, 0], [0, np.inf, 0]])}, r"bad\.npz holds nan or inf in features"),
        ({**GOOD, "mu": np.zeros(3, np.complex128)}, "mu is complex128; expected real"),
        ({**GOOD, "sigma": np.diag([1.0, 1.0, -1e-3])}, "eigenvalue -0.001"),
    ],
)
def test_what_is_no_reference_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_reference(tmp_path / "bad.npz")


def test_a_variance_that_rounding_made_negative_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "ref.npz", mu=np.zeros(3), sigma=np.diag([1.0, 1.0, -1e-9]))
    assert read_reference(tmp_path / "ref.npz").mean.tolist() == [0, 0, 0]


def test_a_damaged_byte_is_no_fault_of_ours(tmp_path: Path) -> None:
    """What a flipped byte makes of a compressed file: none but a `ValueError` leaves the readers."""
    path, images = tmp_path / "ref.npz", np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.savez_compressed(path, images, mu=np.zeros(3), sigma=np.eye(3))
    good = path.read_bytes()
    damaged = [
        good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :]
        for place in range(len(good))
        for flip in (1, 255)
    ]
    causes = set()
    for content in damaged:
        path.write_bytes(content)
        for read in (read_reference, lambda path: ImageArchive(path).read(range(1))):
            try:
                read(path)
            except ValueError as error:
                causes.add(type(error.__cause__ and error.__cause__.__cause__))
    assert {zlib.error, NotImplementedError, RuntimeError} <= causes


def flipped(path: Path) -> Iterator[Path]:
    """Flip one bit of each byte of a file in turn."""
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
        yield path
    path.write_bytes(good)


def test_every_changed_byte_of_ours_is_noticed_or_without_effect(ours: Path) -> None:
    write_reference(ours, GaussianStatistics.of(MADE), MADE, ORIGIN, "f" * 64)
    good, noticed, harmless = read_reference(ours), 0, 0
    assert good.features is not None
    for path in flipped(ours):
        try:
            found = read_reference(path)
        except ValueError:
            noticed += 1
            continue
        harmless += 1
        assert found.features is not None
        assert torch.equal(found.mean, good.mean)
        assert torch.equal(found.covariance, good.covariance)
        assert torch.equal(found.features, good.features)
        assert (found.origin, found.fingerprint, found.archive) == (good.origin, good.fingerprint, None)
    assert noticed > 8 * harmless  # which are dates and permissions


def test_every_changed_byte_of_adms_numbers_is_noticed(tmp_path: Path) -> None:
    path, images = tmp_path / "adm.npz", np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    for write in (np.savez, np.savez_compressed):
        write(path, images, mu=np.arange(3.0), sigma=np.eye(3))
        for one in flipped(path):
            try:
                found = read_reference(one)
            except ValueError:
                continue
            assert found.mean.tolist() == [0, 1, 2]
            assert torch.equal(found.covariance, torch.eye(3, dtype=torch.float64))
            if found.archive is not None:  # else its name was changed, and precision and recall are left out
                np.testing.assert_array_equal(found.archive.read(range(1))[0].permute(1, 2, 0), images[0])


def test_more_features_than_are_read_again_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_MAX_FEATURES", 8 * 4 * 49)
    with pytest.raises(ValueError, match=r"the features of 50 images are kept, .* as by --features 49"):
        write_reference(tmp_path / "a.npz", GaussianStatistics.of(MADE), MADE, ORIGIN)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("dropped", ["checksum", "origin", "features", "fingerprint"])
def test_nothing_can_be_taken_out_of_ours(ours: Path, dropped: str) -> None:
    with np.load(ours) as file:
        arrays = {name: file[name] for name in file if name != dropped}
    np.savez(ours, **arrays)
    with pytest.raises(ValueError, match="its checksum is another"):
        read_reference(ours)


def test_ours_from_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **GOOD, origin=np.array(json.dumps(asdict(ORIGIN))), fingerprint=np.array("f"))
    found = read_reference(tmp_path / "a.npz")
    assert (found.origin, found.fingerprint) == (ORIGIN, "f")


BOMBS = {
    "mu": ({"mu": (2**33,)}, "says it has 68719476864 bytes, packed in"),
    "sigma": ({"mu": (30_000,), "sigma": (30_000, 30_000)}, "its sigma says it has 7200000128 bytes, packed in"),
    "sigma alone": ({"sigma": (30_000, 30_000)}, "its sigma says it has 7200000128 bytes, packed in"),
    "features": ({"features": (2**31, 3)}, "its features says it has 51539607680 bytes, packed in"),
    "features of 64 bits": ({"features": (2**26, 3)}, "says it has 1610612864 bytes, packed in"),
    "arr_0": ({"arr_0": (50_000, 256, 256, 3)}, "says it has 9830400128 bytes, packed in"),
    "one image": ({"arr_0": (1, 60_000, 60_000, 3)}, "says it has 10800000128 bytes, packed in"),
    "text": ({"origin": (2**31,)}, "its origin says it has 17179869312 bytes, packed in"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_headers(tmp_path: Path, name: str) -> None:
    """A file that unpacks to many times its size: nothing of that is ever unpacked."""
    shapes, says = BOMBS[name]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for key, array in GOOD.items():
            if key not in shapes:
                with archive.open(f"{key}.npy", "w") as file:
                    np.save(file, array)
        for key, shape in shapes.items():
            add_zeros(archive, f"{key}.npy", shape, "|u1" if key == "arr_0" else "<f8")
    assert (tmp_path / "a.npz").stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(ValueError, match=says):
        read_reference(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_other_files_are_refused(tmp_path: Path, ours: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("nothing")
    (tmp_path / "half.npz").write_bytes(ours.read_bytes()[:500])
    for name in ("array.npy", "text.npz", "half.npz", "missing.npz", "."):
        with pytest.raises(ValueError, match=r"expected an \.npz with mu"):
            read_reference(tmp_path / name)
