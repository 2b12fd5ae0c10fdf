"""Features to compare images in: those of a small classifier trained on the data's own training split.

They know what this data's images differ in, need no download, and are the same for every model that is compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm import tqdm

from fpdm.data import ImageSet, cache_folder, indices, to_float, to_uint8

# Raise it when the network or its training changes, so that no cache of the old one is used.
_VERSION = 1


@dataclass(frozen=True)
class ClassifierSettings:
    """The classifier's shape and training.

    Attributes:
        widths: Channels of its convolutions, each after the first at half the size; the last is the number of features.
        stem_stride: Stride of the first convolution.
        steps: Optimiser steps.
        batch_size: Images per step.
        learning_rate: The peak of a one-cycle schedule.
        seed: Weights and order of images are a function of it.

    Raises:
        ValueError: A number below 1 (`seed`: below 0), or a learning rate that is not positive.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    stem_stride: int = 2
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.widths or min(*self.widths, self.stem_stride, self.steps, self.batch_size) < 1 or self.seed < 0:
            raise ValueError(f"{self}: expected whole numbers of at least 1 (the seed: 0)")
        if not 0.0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a positive number")

    @classmethod
    def for_size(cls, side: int) -> ClassifierSettings:
        """What suits images of `side` x `side` pixels."""
        if side <= 16:
            return cls(widths=(16, 32, 32), stem_stride=1, steps=400, batch_size=64)
        return cls()


class ClassifierNetwork(nn.Module):
    """Convolutions, a mean over the image, a linear layer. Its features are what the linear layer sees."""

    def __init__(self, channels: int, num_classes: int, settings: ClassifierSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        # Without memory, because PyTorch's own initialisation would draw from the process's random numbers.
        with torch.device("meta"):
            for place, width in enumerate(settings.widths):
                stride = 2 if place else settings.stem_stride
                layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            self.body = nn.Sequential(*layers)
            self.head = nn.Linear(before, num_classes)
        self.to_empty(device="cpu")
        source = torch.Generator().manual_seed(settings.seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=source)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight, generator=source)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def features(self, x: Tensor) -> Tensor:
        """Features (B, F) of images `x` (B, C, H, W) in [-1, 1]; all are 0 or more."""
        return self.body(x).mean(dim=(2, 3))  # (B, F)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images `x` (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))  # (B, K)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of images, and whose they are.

    Attributes:
        values: (N, F) float64, finite.
        extractor: `Classifier.identity` of what made them.

    Raises:
        ValueError: Another shape, or a value that is nan or inf.
    """

    values: Tensor
    extractor: str

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != torch.float64:
            raise ValueError(f"features are {self.values.dtype} {tuple(self.values.shape)}; expected float64 (N, F)")
        bad = int((~self.values.isfinite()).any(dim=1).sum())
        if bad:
            raise ValueError(
                f"the features of {bad} of {len(self.values)} images hold nan or inf; expected finite numbers"
            )


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier, for its features.

    Attributes:
        data: Name of the data that it was trained on.
        accuracy: Share of the held-out images that it puts in the right class.
        shape: (C, H, W) of the images that it takes.
        network: The classifier, on the CPU, in evaluation mode.
        sha256: Of its weights file.
    """

    data: str
    accuracy: float
    shape: tuple[int, int, int]
    network: ClassifierNetwork
    sha256: str

    @property
    def name(self) -> str:
        """What the features are called beside every figure: "classifier features, digits, acc .98"."""
        return f"classifier features, {self.data}, acc {f'{self.accuracy:.2f}'.removeprefix('0')}"

    @property
    def identity(self) -> str:
        """The name and the weights' hash: features are comparable only if these are equal."""
        return f"{self.name}, {self.sha256[:12]}"

    @torch.no_grad()
    def features(self, images: Tensor, batch_size: int = 256) -> Features:
        """Features of images, real or generated.

        Generated images are rounded to 8 bits first: it does not matter whether they come from memory or from files.

        Args:
            images: (N, C, H, W), uint8, or floating point in [-1, 1] (values outside are clamped).
            batch_size: Images at a time.

        Returns:
            (N, F) float64, on the CPU.

        Raises:
            ValueError: No images, images of another shape or type, or ones that hold nan or inf.
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


def classifier(
    train: ImageSet, held_out: ImageSet, *, settings: ClassifierSettings | None = None, cache: Path | str | None = None
) -> Classifier:
    """Train a classifier on `train`, or take it from the cache.

    A function of images, labels and settings, on one machine with one number of threads (others add in another order):
    it neither uses nor changes the process's random numbers. Digits take seconds, Fashion-MNIST half a minute.

    Args:
        train: The training split of the data to judge on.
        held_out: Images that it does not see, for its accuracy.
        settings: By default what suits the images' size.
        cache: Folder for trained classifiers; by default `classifiers` in `fpdm.data.cache_folder()`.

    Warns:
        UserWarning: A damaged cache (the classifier is trained again), or one that cannot be written.

    Raises:
        ValueError: The two sets differ in shape or number of classes.
    """
    if (train.shape, train.num_classes) != (held_out.shape, held_out.num_classes):
        raise ValueError(
            f"{train.name!r} has images of {train.shape} in {train.num_classes} classes, "
            f"the held-out {held_out.name!r} of {held_out.shape} in {held_out.num_classes}; "
            "expected two splits of one data set"
        )
    settings = settings or ClassifierSettings.for_size(max(train.shape[1:]))
    network = ClassifierNetwork(train.shape[0], train.num_classes, settings)
    folder = Path(cache) if cache is not None else cache_folder() / "classifiers"
    key = _key(train, held_out, settings)
    weights_file, about_file = folder / f"{key}.safetensors", folder / f"{key}.json"
    if about_file.exists():
        try:
            about = json.loads(about_file.read_text(encoding="utf-8"))
            weights = weights_file.read_bytes()
            if hashlib.sha256(weights).hexdigest() != about["sha256"]:
                raise ValueError("its hash is not the one recorded")
            network.load_state_dict(safetensors.torch.load(weights))
            return Classifier(train.name, float(about["accuracy"]), train.shape, network.eval(), about["sha256"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            warnings.warn(f"{weights_file} is damaged ({reason}); the classifier is trained again", stacklevel=2)
            network = ClassifierNetwork(train.shape[0], train.num_classes, settings)
    _fit(network, train, settings)
    accuracy = _accuracy(network, held_out)
    weights = safetensors.torch.save(network.state_dict())
    sha256 = hashlib.sha256(weights).hexdigest()
    about = {
        "data": train.name,
        "accuracy": accuracy,
        "settings": dataclasses.asdict(settings),
        "version": _VERSION,
        "sha256": sha256,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place, so that a reader beside us never sees half a file.
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for path, content in ((weights_file, weights), (about_file, json.dumps(about, indent=1).encode())):
                (Path(temporary) / path.name).write_bytes(content)
                os.replace(Path(temporary) / path.name, path)
    except OSError as error:
        warnings.warn(f"the classifier could not be kept in {folder} ({error}); it will be trained again", stacklevel=2)
    return Classifier(train.name, accuracy, train.shape, network, sha256)


@torch.enable_grad()
def _fit(network: ClassifierNetwork, train: ImageSet, settings: ClassifierSettings) -> None:
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=settings.steps)
    for step in tqdm(
        range(settings.steps), desc=f"classifier for {train.name}", unit="step", leave=False, disable=None
    ):
        chosen = indices(len(train), seed=settings.seed, first=step * settings.batch_size, count=settings.batch_size)
        images, labels = train.batch(chosen)  # (B, C, H, W), (B,)
        loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    network.eval()


@torch.no_grad()
def _accuracy(network: ClassifierNetwork, held_out: ImageSet) -> float:
    right = 0
    for images, labels in zip(held_out.images.split(256), held_out.labels.split(256), strict=True):
        right += int((network(to_float(images)).argmax(dim=1) == labels).sum())
    return right / len(held_out)


def _key(train: ImageSet, held_out: ImageSet, settings: ClassifierSettings) -> str:
    head = {"version": _VERSION, "classes": train.num_classes, "settings": dataclasses.asdict(settings)}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for part in (train, held_out):
        digest.update(str(tuple(part.images.shape)).encode())
        for tensor in (part.images, part.labels):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
