"""Read and write reference statistics: ADM's `.npz` with `mu` and `sigma`, and the fields that ours adds."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fpdm import __version__
from fpdm.configuration import parse_json
from fpdm.evaluation.features import Features, same_extractor
from fpdm.evaluation.frechet import GaussianStatistics
from fpdm.evaluation.pretrained import PUBLISHED, PretrainedExtractor
from fpdm.fid.npz import ImageArchive, array_digest, open_npz
from fpdm.files import sha256_of, write_atomically

_MAX_DIMS, _MAX_FEATURES = 4096, 2**30  # features per image; bytes of all that are kept, as float64
_CHECKSUM = "checksum"
_FAR = 1e-6  # from symmetric, or below zero: more than rounding, as a share of the largest


@dataclass(frozen=True)
class Origin:
    """The images and the extractor behind reference statistics.

    Attributes:
        source: Name of the folder or data set.
        split: "all", "train", "validation" or "test".
        images: Number of images.
        size: Pixels per side.
        channels: 3 (RGB) or 1 (grey).
        resize: How the images were resized.
        extractor: `PretrainedExtractor.identity`.

    Raises:
        ValueError: A field has the wrong type.
    """

    source: str
    split: str
    images: int
    size: int
    channels: int
    resize: str
    extractor: str

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if type(value).__name__ != one.type:
                raise ValueError(f"its origin's {one.name} is {value!r}; expected {one.type}")


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Statistics of real images, with which generated ones are compared.

    Attributes:
        path: The file.
        sha256: Hash of the file.
        mean: (F,) float64.
        covariance: (F, F) float64.
        features: (M, F) float64, of all or some of the images; None if the file has none.
        archive: Images in the file, such as the 10,000 in ADM's; None if it has none. They are used for precision and
            recall only, because the statistics are those of other images.
        origin: Images and extractor behind the statistics; None if the file does not say, as in ADM's.
        fingerprint: Hash of everything that the file was made from; empty if the file does not say.
    """

    path: Path
    sha256: str
    mean: Tensor
    covariance: Tensor
    features: Tensor | None
    archive: ImageArchive | None
    origin: Origin | None
    fingerprint: str

    def statistics(self, extractor: PretrainedExtractor) -> GaussianStatistics:
        """Return the statistics after checking that they belong to this extractor.

        A file that does not name its extractor is taken to be Inception's, as all published ones are.

        Warns:
            UserWarning: The file does not say, and the extractor is Inception with other than the published weights.

        Raises:
            ValueError: They belong to another extractor.
        """
        if self.origin is None and not extractor.is_inception:
            raise ValueError(
                f"{self.path} does not say whose features its statistics are of, so Inception's are assumed, but the "
                f"extractor is {extractor.name}; make a reference for it by fpdm reference"
            )
        if self.origin is None and not extractor.is_published:
            warnings.warn(
                f"{self.path} does not say whose features its statistics are of; FID's are assumed, but the weights "
                f"given are others (their sha256 does not begin with {PUBLISHED})",
                stacklevel=2,
            )
        if self.origin is not None and not same_extractor(self.origin.extractor, extractor.identity):
            raise ValueError(
                f"{self.path} has statistics of {self.origin.extractor}, but the extractor is {extractor.identity}; "
                "make a reference for it by fpdm reference, or use the other extractor"
            )
        n = self.origin.images if self.origin else None
        return GaussianStatistics(self.mean, self.covariance, n, extractor.identity)


def write_reference(
    path: Path, statistics: GaussianStatistics, features: Features | None, origin: Origin, fingerprint: str = ""
) -> None:
    """Write a reference, atomically.

    It has `mu`, `sigma` (float64), `features` (float32, if any), `origin` (JSON), `fingerprint`, the version of
    `fpdm`, and `checksum`, a hash of all of them.

    Raises:
        ValueError: There are more features than are read again.
    """
    _check_size(statistics.dims, len(features.values) if features is not None else 0)
    arrays: dict[str, Any] = {"mu": statistics.mean.numpy(), "sigma": statistics.covariance.numpy()}
    if features is not None:
        arrays["features"] = features.values.float().numpy()
    arrays["origin"] = np.array(json.dumps({**asdict(origin), _CHECKSUM: True}))
    arrays["fingerprint"] = np.array(fingerprint)
    arrays["fpdm"] = np.array(__version__)
    arrays[_CHECKSUM] = np.array(_checksum({name: array_digest(array) for name, array in arrays.items()}))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def read_reference(path: Path) -> ReferenceStatistics:
    """Read reference statistics, ours or ADM's.

    A file of ours has a checksum over everything in it. Of others, what is read is covered by the CRCs of the archive.

    Raises:
        ValueError: The file is missing or damaged, is not an `.npz` with `mu` and `sigma`, these are not a mean and a
            covariance, or another field is wrong.
    """
    expected = "expected an .npz with mu (F,) and sigma (F, F), such as ADM's or one made by fpdm reference"
    if not path.exists():
        raise ValueError(f"there is no reference {path}; {expected}")
    try:
        with open_npz(path) as file:
            if not {"mu", "sigma"} <= file.names:
                raise ValueError(f"it holds {', '.join(sorted(file.names)[:9]) or 'nothing'}")
            _check_shapes({name: file.header(name).shape for name in ("mu", "sigma", "features") if name in file.names})
            mean, covariance = file.numbers("mu"), file.numbers("sigma")
            features = file.numbers("features") if "features" in file.names else None
            origin, checked = _read_origin(file.text("origin")) if "origin" in file.names else (None, False)
            fingerprint = file.text("fingerprint") if "fingerprint" in file.names else ""
            if "fpdm" in file.names:
                file.text("fpdm")  # the version, which is under the checksum
            made = _checksum(file.digests)
            if checked != (_CHECKSUM in file.names) or (checked and file.text(_CHECKSUM) != made):
                raise ValueError("it is damaged: its checksum is another")
            has_images = "arr_0" in file.names
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no reference: {error}; {expected}") from error
    for name, numbers in (("mu", mean), ("sigma", covariance), ("features", features)):
        if numbers is not None and not bool(numbers.isfinite().all()):
            raise ValueError(f"{path} holds nan or inf in {name}; make it anew")
    if float((covariance - covariance.T).abs().max()) > _FAR * float(covariance.abs().max()):
        raise ValueError(f"sigma of {path} is not symmetric, so no covariance; make it anew")
    eigenvalues = torch.linalg.eigvalsh(covariance)  # (F,), ascending
    if eigenvalues[0] < -_FAR * eigenvalues[-1]:
        raise ValueError(
            f"sigma of {path} has the eigenvalue {float(eigenvalues[0]):.3g}, so it is no covariance; make it anew"
        )
    archive = ImageArchive(path) if has_images else None
    return ReferenceStatistics(path, sha256_of(path), mean, covariance, features, archive, origin, fingerprint)


def _read_origin(text: str) -> tuple[Origin, bool]:
    """Return the origin, and whether the file has a checksum, which it can then not lose in silence."""
    values = parse_json(text, "its origin")
    checked = values.pop(_CHECKSUM, False)
    return Origin(**values), bool(checked)


def _check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check the shapes before anything is read, because a small file may unpack to a large array."""
    mean, covariance, features = (shapes.get(name) for name in ("mu", "sigma", "features"))
    dims = mean[0] if mean is not None and len(mean) == 1 else 0
    if not dims or covariance != (dims, dims):
        raise ValueError(f"it has mu {mean} and sigma {covariance}")
    if features is not None and (len(features) != 2 or features[1] != dims or not features[0]):
        raise ValueError(f"it has mu {mean} and features {features}; expected (N, {dims})")
    _check_size(dims, features[0] if features else 0)


def _check_size(dims: int, images: int) -> None:
    if dims > _MAX_DIMS:
        raise ValueError(f"the statistics are of {dims} features; expected at most {_MAX_DIMS}")
    if 8 * dims * images > _MAX_FEATURES:
        raise ValueError(
            f"the features of {images} images are kept, {8 * dims * images / 2**30:.1f} GiB; expected at most "
            f"{_MAX_FEATURES // (8 * dims)} images, as by --features {_MAX_FEATURES // (8 * dims)}"
        )


def _checksum(digests: Mapping[str, str]) -> str:
    """Hash the names and the hashes of arrays."""
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()
