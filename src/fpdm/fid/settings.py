"""Settings of FID evaluations and of their reference statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ALL = "all"
NEIGHBOUR = 3  # its distance is a ball's radius in precision and recall


@dataclass(frozen=True)
class EvaluationSettings:
    """What is drawn, and what it is measured by.

    Attributes:
        num_images: Images to draw. FIDs are compared at equal numbers, by custom 50,000.
        labels: "random" (a draw of each image's own, the custom) or "balanced" (all classes in turn).
        seed: Image i and its label are a function of the seed and i alone.
        extractor: Whose features: "inception", which makes it a FID, or a TorchScript file that makes (B, F) of
            (B, 3, H, W) uint8. Such a file is a program; give one that you trust.
        weights: Inception's weights in torch-fidelity's layout (default: downloaded once).
        manifold_images: For precision and recall, images of each set at most; their values depend on it.
        batch_size: Images at once in each process; changes nothing but speed, memory and rounding.
        piece_size: Images that a process takes on at a time, and that are lost at most if it is killed.
        npz: Also write samples.npz (arr_0, uint8, N x H x W x 3) for ADM's evaluation suite.
        keep: Keep features (with --npz images too), so that another reference takes no new samples; else they are
            deleted at the end. 50,000 Inception features take 0.4 GB, 256 x 256 images 10 GB.

    Raises:
        ValueError: A number out of range, or unknown labels.
    """

    num_images: int = 50_000
    labels: Literal["random", "balanced"] = "random"
    seed: int = 0
    extractor: str = "inception"
    weights: str = ""
    manifold_images: int = 10_000
    batch_size: int = 64
    piece_size: int = 192
    npz: bool = False
    keep: bool = False

    def __post_init__(self) -> None:
        if self.num_images < 2:
            raise ValueError(f"num_images is {self.num_images}; expected 2 or more, to have a covariance")
        if self.manifold_images <= NEIGHBOUR:
            raise ValueError(f"manifold_images is {self.manifold_images}; expected more than {NEIGHBOUR}")
        for name in ("batch_size", "piece_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; expected an integer from 0 and below 2^32")
        if self.labels not in ("random", "balanced"):
            raise ValueError(f"labels is {self.labels!r}; expected random or balanced")


@dataclass(frozen=True)
class ReferenceSettings:
    """Which images become a reference, and by what features.

    Attributes:
        size: Pixels a side that a folder's images are brought to: that of the generated ones.
        channels: 3 (RGB) or 1 (grey), for a folder.
        crop: How a folder's images become squares: "lanczos" (the middle square, then Lanczos) or "adm" (as ADM makes
            them, whose reference statistics are the published ones).
        split: "all" images, or the "train", "validation" or "test" part that fpdm train would make of them.
        extractor: Whose features: "inception", or a TorchScript file that makes (B, F) of (B, 3, H, W) uint8. Such a
            file is a program; give one that you trust.
        weights: Inception's weights in torch-fidelity's layout (default: downloaded once).
        features: Images, spread over all, whose features are kept for KID, precision and recall; 0 for none. 10,000 of
            Inception's take 80 MB.
        batch_size: Images at once in each process.
        piece_size: Images that a process takes on at a time, and that are lost at most if it is killed.
        strict: An image that cannot be read is an error; else it is left out and named.

    Raises:
        ValueError: A number out of range, or an unknown split.
    """

    size: int = 256
    channels: int = 3
    crop: Literal["lanczos", "adm"] = "lanczos"
    split: Literal["all", "train", "validation", "test"] = ALL
    extractor: str = "inception"
    weights: str = ""
    features: int = 10_000
    batch_size: int = 64
    piece_size: int = 512
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("size", "batch_size", "piece_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.features < 0 or self.channels not in (1, 3):
            raise ValueError(
                f"features is {self.features} and channels {self.channels}; expected 0 or more, and 1 (grey) or 3 (RGB)"
            )
        if self.split not in (ALL, "train", "validation", "test"):
            raise ValueError(f"split is {self.split!r}; expected all, train, validation or test")
