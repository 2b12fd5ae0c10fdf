"""Settings of FID evaluations and of their reference statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt

from fpdm.configuration import BatchSize, NoiseSeed, NonNegativeInt, Pixels, PositiveInt, configuration
from fpdm.data.config import Crop
from fpdm.outputs import OutputFolder
from fpdm.runs.layout import SAMPLING

ALL = "all"
EVALUATION = OutputFolder("evaluate", SAMPLING, frozenset({"plan", "seed", "extractor"}), frozenset({SAMPLING}))
REFERENCE = OutputFolder("reference", "", frozenset())  # of the folder beside an unfinished file
NEIGHBOUR = 3  # its distance is a ball's radius in precision and recall


@configuration
class EvaluationSettings:
    """Which images to generate, and how to measure them.

    Attributes:
        num_images: Number of images to generate. FIDs are compared at equal numbers, usually 50,000.
        labels: "random" (drawn for each image, the custom) or "balanced" (all classes in turn).
        seed: Seed of the images. Image i and its label depend only on the seed and i.
        extractor: Network that computes the features: "inception", which makes the result a FID, or a TorchScript file
            that maps (B, 3, H, W) uint8 to (B, F). Such a file is a program; use only one that you trust.
        weights: File with Inception's weights in the layout of torch-fidelity (default: downloaded once).
        manifold_images: Maximum number of images of each set for precision and recall, whose values depend on it.
        batch_size: Images per batch in each process; affects speed, memory and rounding only.
        piece_size: Images per shard of the work; at most this many per process are lost if the command is killed.
        npz: Also write samples.npz (arr_0, uint8, N x H x W x 3) for ADM's evaluation suite.
        keep: Keep the features (and with --npz the images), so that another reference needs no new samples. 50,000
            Inception features take 0.4 GB, images of 256 x 256 take 10 GB.

    Raises:
        ValueError: A number out of range, or unknown labels.
    """

    num_images: Annotated[PositiveInt, Ge(2)] = 50_000
    labels: Literal["random", "balanced"] = "random"
    seed: NoiseSeed = 0
    extractor: str = "inception"
    weights: str = ""
    manifold_images: Annotated[PositiveInt, Gt(NEIGHBOUR)] = 10_000
    batch_size: BatchSize = 64
    piece_size: PositiveInt = 192
    npz: bool = False
    keep: bool = False


@configuration
class ReferenceSettings:
    """Which images to make a reference from, and with which features.

    Attributes:
        size: Height and width in pixels to which the images of a folder are resized; use that of the generated images.
        channels: Number of colour channels of a folder's images: 3 (RGB) or 1 (grey).
        crop: How the images of a folder become squares: "lanczos" (the central square, resized by Lanczos) or "adm"
            (box filters, then bicubic, then the central square, as in ADM; published reference statistics are made like
            this).
        split: Images to use: "all", or the "train", "validation" or "test" split that fpdm train makes of them.
        extractor: Network that computes the features: "inception", which makes the result a FID, or a TorchScript file
            that maps (B, 3, H, W) uint8 to (B, F). Such a file is a program; use only one that you trust.
        weights: File with Inception's weights in the layout of torch-fidelity (default: downloaded once).
        features: Number of images, spread over all, whose features are kept for KID, precision and recall; 0 for none.
            10,000 features of Inception take 80 MB.
        batch_size: Images per batch in each process.
        piece_size: Images per shard of the work; at most this many per process are lost if the command is killed.
        strict: Stop at the first image that cannot be read, instead of skipping it.

    Raises:
        ValueError: A number out of range, or an unknown split.
    """

    size: Pixels = 256
    channels: Annotated[Literal[1, 3], "3 (RGB) or 1 (grey)"] = 3
    crop: Crop = "lanczos"
    split: Literal["all", "train", "validation", "test"] = "all"
    extractor: str = "inception"
    weights: str = ""
    features: NonNegativeInt = 10_000
    batch_size: BatchSize = 64
    piece_size: PositiveInt = 512
    strict: bool = False
