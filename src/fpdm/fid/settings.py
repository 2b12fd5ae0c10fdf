"""Settings of FID evaluations and of their reference statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt

from fpdm.configuration import NonNegativeInt, PositiveInt, Seed, configuration
from fpdm.data.config import Crop

ALL = "all"
NEIGHBOUR = 3  # its distance is a ball's radius in precision and recall


@configuration
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

    num_images: Annotated[int, Ge(2)] = 50_000
    labels: Literal["random", "balanced"] = "random"
    seed: Seed = 0
    extractor: str = "inception"
    weights: str = ""
    manifold_images: Annotated[int, Gt(NEIGHBOUR)] = 10_000
    batch_size: PositiveInt = 64
    piece_size: PositiveInt = 192
    npz: bool = False
    keep: bool = False


@configuration
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

    size: PositiveInt = 256
    channels: Annotated[Literal[1, 3], "3 (RGB) or 1 (grey)"] = 3
    crop: Crop = "lanczos"
    split: Literal["all", "train", "validation", "test"] = "all"
    extractor: str = "inception"
    weights: str = ""
    features: NonNegativeInt = 10_000
    batch_size: PositiveInt = 64
    piece_size: PositiveInt = 512
    strict: bool = False
