"""A feature extractor trained on the training split of the data, with a cache.

It knows how the images of this data differ, needs no download, and is the same for every model in a comparison.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fpdm.data.images import ImageSet, to_float, to_uint8
from fpdm.evaluation.features import Features
from fpdm.evaluation.networks import ExtractorSettings, Network, network_for
from fpdm.files import cache_folder, read_bytes, read_json, write_atomically, write_json
from fpdm.progress_bar import track
from fpdm.randomness import Stream, generator

# Raise it when a network or its training changes, so that no cache of the old one is used.
_LARGEST = 2**28  # bytes of weights
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Extractor:
    """A trained network that computes features.

    Attributes:
        data: Name of the data that it was trained on.
        score: Accuracy of a classifier, or mean squared error of an autoencoder, on held-out images.
        shape: Shape of the input images, (C, H, W).
        network: The network, on the CPU, in evaluation mode.
        sha256: Hash of the weights file.
    """

    data: str
    score: float
    shape: tuple[int, int, int]
    network: Network
    sha256: str

    @property
    def name(self) -> str:
        """Name of the features, shown beside every value: "classifier features, digits, acc .98"."""
        return f"{self.network.kind} features, {self.data}, {self.network.told(self.score)}"

    @property
    def identity(self) -> str:
        """Name and hash of the weights. Only features with the same identity can be compared."""
        return f"{self.name}, {self.sha256[:12]}"

    @torch.no_grad()
    def features(self, images: Tensor, batch_size: int = 256) -> Features:
        """Compute features of images, real or generated.

        Generated images are rounded to 8 bits first, so that images in memory and from files give the same features.

        Args:
            images: (N, C, H, W), uint8, or floating point in [-1, 1] (values outside are clamped).
            batch_size: Number of images at once.

        Returns:
            (N, F) float64, on the CPU.

        Raises:
            ValueError: There are no images, their shape or type is wrong, or they contain nan or inf.
        """
        if images.ndim != 4 or images.shape[1:] != self.shape or not len(images):
            raise ValueError(
                f"images are {tuple(images.shape)}; expected at least one of {self.shape}, as (N, C, H, W)"
            )
        if images.is_floating_point():
            bad = int((~images.isfinite()).flatten(1).any(dim=1).sum())
            if bad:
                raise ValueError(
                    f"{bad} of {len(images)} images hold nan or inf; expected finite numbers, from -1 to 1"
                )
            images = to_uint8(images)  # (N, C, H, W)
        elif images.dtype != torch.uint8:
            raise ValueError(f"images are {images.dtype}; expected uint8, or floating point in [-1, 1]")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
        batches = [self.network.features(to_float(batch.cpu())) for batch in images.split(batch_size)]  # of (B, F)
        return Features(torch.cat(batches).double(), self.identity)


def train_extractor(
    train: ImageSet, held_out: ImageSet, *, settings: ExtractorSettings | None = None, cache: Path | str | None = None
) -> Extractor:
    """Train an extractor, or load it from the cache: a classifier if there are classes, else an autoencoder.

    The result is a function of images, labels and settings on one machine with one number of threads (another number
    changes the order of additions). The global random state is neither used nor changed. Training takes seconds for
    digits, half a minute for Fashion-MNIST, minutes for images of 256 x 256.

    Args:
        train: The training split of the data.
        held_out: Images for the score, not used in training.
        settings: Shape and training of the network. By default they suit the size and number of images.
        cache: Folder of trained extractors; by default `classifiers` or `autoencoders` in `fpdm.data.cache_folder()`.

    Warns:
        UserWarning: The cache is damaged (the extractor is trained again) or cannot be written.

    Raises:
        ValueError: The two splits differ in shape or number of classes.
    """
    if (train.shape, train.num_classes) != (held_out.shape, held_out.num_classes):
        raise ValueError(
            f"{train.name!r} has images of {train.shape} in {train.num_classes} classes, "
            f"the held-out {held_out.name!r} of {held_out.shape} in {held_out.num_classes}; "
            "expected two splits of one data set"
        )
    settings = settings or ExtractorSettings.for_images(train)
    network = network_for(train, settings)
    folder = Path(cache) if cache is not None else cache_folder() / f"{network.kind}s"
    key = _key(train, held_out, settings)
    weights_file, about_file = folder / f"{key}.safetensors", folder / f"{key}.json"
    if about_file.exists():
        try:
            about = read_json(about_file)
            weights = read_bytes(weights_file, _LARGEST)
            if hashlib.sha256(weights).hexdigest() != about["sha256"]:
                raise ValueError("its hash is not the one recorded")
            network.load_state_dict(safetensors.torch.load(weights))
            return Extractor(train.name, float(about[network.score]), train.shape, network.eval(), about["sha256"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            warnings.warn(f"{weights_file} is damaged ({reason}); the {network.kind} is trained again", stacklevel=2)
            network = network_for(train, settings)
    _fit(network, train, settings)
    score = _score(network, held_out)
    weights = safetensors.torch.save(network.state_dict())
    sha256 = hashlib.sha256(weights).hexdigest()
    about = {
        "data": train.name,
        network.score: score,
        "settings": dataclasses.asdict(settings),
        "version": _VERSION,
        "sha256": sha256,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(weights_file, weights)
        write_json(about_file, about)
    except OSError as error:
        warnings.warn(
            f"the {network.kind} could not be kept in {folder} ({error}); it will be trained again", stacklevel=2
        )
    return Extractor(train.name, score, train.shape, network, sha256)


@torch.enable_grad()
def _fit(network: Network, train: ImageSet, settings: ExtractorSettings) -> None:
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=settings.steps)
    for step in track(range(settings.steps), f"training the {network.kind} for {train.name}", unit="steps"):
        chosen = _batch_indices(len(train), settings, step)
        images, labels = train.batch(chosen)  # (B, C, H, W), (B,)
        loss = network.loss(images, labels, generator(settings.seed, Stream.TRAIN, index=0, step=step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    network.eval()


def _batch_indices(n: int, settings: ExtractorSettings, step: int) -> list[int]:
    """Return the images of a training step.

    NumPy's permutation and not `index_sampler.indices`: recorded distances are of networks trained in this order.
    """
    first, size = step * settings.batch_size, settings.batch_size
    epochs = range(first // n, (first + size - 1) // n + 1)
    order = np.concatenate([_epoch(n, settings.seed, epoch) for epoch in epochs])
    return order[first - epochs.start * n :][:size].tolist()


@functools.lru_cache(maxsize=2)
def _epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, Stream.ORDER, index=epoch).permutation(n)  # (n,)


@torch.no_grad()
def _score(network: Network, held_out: ImageSet) -> float:
    total = 0.0
    for images, labels in zip(held_out.images.split(256), held_out.labels.split(256), strict=True):
        total += float(network.scores(to_float(images), labels).sum())
    return total / len(held_out)


def _key(train: ImageSet, held_out: ImageSet, settings: ExtractorSettings) -> str:
    head = {"version": _VERSION, "classes": train.num_classes, "settings": dataclasses.asdict(settings)}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for part in (train, held_out):
        digest.update(str(tuple(part.images.shape)).encode())
        for tensor in (part.images, part.labels):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
