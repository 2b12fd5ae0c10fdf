"""Pretrained feature extractors: the Inception network of FID, or any TorchScript file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fpdm.evaluation.features import Features
from fpdm.files import sha256_of

INCEPTION = "inception"
PUBLISHED = "6726825d"  # how the hash of FID's weights begins; their file's name ends with it
_LAYER = "2048"  # the mean-pooled features before the logits


@dataclass(frozen=True, eq=False)
class PretrainedExtractor:
    """A pretrained network that computes features.

    Attributes:
        name: "Inception", or the name of the file.
        sha256: Hash of the weights file.
        resize: How images are resized to the network's input size.
        network: Maps (B, 3, H, W) uint8 to (B, F), on `device`.
        device: Device of the network.
    """

    name: str
    sha256: str
    resize: str
    network: Callable[[Tensor], Tensor]
    device: torch.device

    @property
    def identity(self) -> str:
        """Name and hash of the weights. Only features with the same identity can be compared."""
        return f"{self.name}, {self.sha256[:12]}"

    @property
    def is_inception(self) -> bool:
        """Whether it is the network of FID, with any weights."""
        return self.name == "Inception"

    @property
    def is_published(self) -> bool:
        """Whether it is the network of FID with the published weights."""
        return self.is_inception and self.sha256.startswith(PUBLISHED)

    @torch.no_grad()
    def features(self, images: Tensor, batch_size: int = 64) -> Features:
        """Compute features of images.

        Args:
            images: (N, C, H, W) uint8; grey images are repeated to three channels.
            batch_size: Number of images at once.

        Returns:
            (N, F) float64, on the CPU.

        Raises:
            ValueError: There are no images, their type or number of channels is wrong, or the network does not return
                finite features (B, F).
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
            raise ValueError(
                f"images are {images.dtype} {tuple(images.shape)}; expected uint8 (N, C, H, W) with C of 1 or 3, "
                "and at least one"
            )
        with _exact():
            batches = [self._batch(batch) for batch in images.split(batch_size)]  # of (B, F)
        return Features(torch.cat(batches), self.identity)

    def _batch(self, images: Tensor) -> Tensor:
        rgb = images.to(self.device).expand(-1, 3, -1, -1).contiguous()  # (B, 3, H, W)
        try:
            found = self.network(rgb)  # (B, F)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(
                f"{self.name} fails on uint8 images {tuple(rgb.shape)}: {_short(error)}; expected a network that takes "
                "(B, 3, H, W) uint8"
            ) from error
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"{self.name} makes {what} of {len(images)} images; expected ({len(images)}, F)")
        return found.cpu().double()


def pretrained_extractor(
    which: str = INCEPTION, *, weights: Path | None = None, device: torch.device | str = "cpu"
) -> PretrainedExtractor:
    """Load a pretrained feature extractor.

    Inception is torch-fidelity's conversion of the network that defines FID (Heusel et al. 2017; Szegedy et al. 2016),
    with the bilinear resizing of TensorFlow 1 inside. A TorchScript file is a program; use only files that you trust.

    Args:
        which: "inception", or a TorchScript file that maps (B, 3, H, W) uint8 to features (B, F).
        weights: Weights of Inception in torch-fidelity's layout. None downloads them once, into PyTorch's hub folder.
        device: Device of the network.

    Raises:
        ValueError: A file is missing or not of this kind, the weights cannot be downloaded, or torch-fidelity is not
            installed.
    """
    device = torch.device(device)
    if which == INCEPTION:
        return _inception(weights, device)
    path = Path(which)
    if weights is not None:
        raise ValueError(f"weights is {weights}, but the extractor {path} has its own; leave the weights out")
    if not path.is_file():
        raise ValueError(f"there is no extractor {which}; expected {INCEPTION!r} or a TorchScript file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that there is torch.export too
            network = torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(f"{path} is no TorchScript file: {_short(error)}") from error
    return PretrainedExtractor(path.name, sha256_of(path), "by the TorchScript file", network, device)


def _inception(weights: Path | None, device: torch.device) -> PretrainedExtractor:
    if weights is not None and not weights.is_file():
        raise ValueError(f"there is no weights file {weights}; leave the weights out to download them")
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-not-found]
            URL_INCEPTION_V3,
            FeatureExtractorInceptionV3,
        )
    except ImportError as error:
        raise ValueError("Inception needs torch-fidelity: pip install torch-fidelity") from error
    path = weights or _downloaded(URL_INCEPTION_V3)
    try:
        with _data_only():
            network = FeatureExtractorInceptionV3(INCEPTION, [_LAYER], feature_extractor_weights_path=str(path))
    except Exception as error:  # PyTorch's readers raise nearly anything on a file that is none of theirs
        raise ValueError(
            f"{path} holds no weights of torch-fidelity's Inception: {_short(error)}; expected the file "
            f"{URL_INCEPTION_V3.rsplit('/', 1)[-1]}"
        ) from error
    network.to(device)
    resize = "299 x 299, bilinear as in TensorFlow 1, inside the network"
    return PretrainedExtractor("Inception", sha256_of(path), resize, lambda images: network(images)[0], device)


def _downloaded(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=PUBLISHED)  # whole, or not at all
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"Inception's weights could not be downloaded ({_short(error)}); fetch {url} elsewhere and give the file "
            "as --weights"
        ) from error
    return path


@contextmanager
def _data_only() -> Iterator[None]:
    """Make PyTorch load tensors only: torch-fidelity's loader would run code from the file."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _exact() -> Iterator[None]:
    """Run convolutions deterministically and in full float32: TF32 changes the fourth digit of a FID."""
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
