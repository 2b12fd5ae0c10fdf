"""Small networks that compute features: a classifier, or an autoencoder for images without classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from fpdm.configuration import NonNegativeInt, PositiveInt, PositiveNumber, configuration
from fpdm.data.images import ImageSet

_MIN_STEPS, _MAX_EPOCHS = 100, 30
_CONTRAST = 0.03  # weight of the autoencoder's contrastive loss
_TEMPERATURE = 0.2


@configuration
class ExtractorSettings:
    """An extractor's shape and training.

    Attributes:
        widths: Channels of its convolutions, each after the first at half the size; the last is the number of features.
        stem_stride: Stride of the first convolution.
        steps: Optimiser steps.
        batch_size: Images per step.
        learning_rate: The peak of a one-cycle schedule.
        seed: Weights and order of images are a function of it.

    Raises:
        ValueError: A number below 1 (`batch_size`: below 2, `seed`: below 0), or a learning rate that is not positive.
    """

    widths: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (16, 32, 64)
    stem_stride: PositiveInt = 2
    steps: PositiveInt = 1500
    batch_size: Annotated[int, Ge(2)] = 128
    learning_rate: PositiveNumber = 0.01
    seed: NonNegativeInt = 0

    @classmethod
    def for_images(cls, train: ImageSet) -> ExtractorSettings:
        """Choose settings for these images: more strides for large images, fewer steps for few images."""
        side = max(train.shape[1:])
        if side <= 16:
            suited = cls(widths=(16, 32, 32), stem_stride=1, steps=400, batch_size=64)
        else:
            # One more stride for each doubling of 32 pixels, so that the last map is of about 4 x 4.
            doublings = max((side - 1).bit_length() - 5, 0)
            widths = (8, 16, 32, *[64] * doublings) if doublings else (16, 32, 64)
            suited = cls(widths, steps=1500 if has_classes(train) else 600, batch_size=max(32, 128 >> doublings))
        enough = max(_MIN_STEPS, _MAX_EPOCHS * len(train) // suited.batch_size)
        return replace(suited, steps=min(suited.steps, enough))


class ClassifierNetwork(nn.Module):
    """A classifier: convolutions, a mean over the image, a linear layer, whose inputs are the features."""

    kind = "classifier"
    score = "accuracy"

    def __init__(self, shape: tuple[int, int, int], num_classes: int, settings: ExtractorSettings) -> None:
        super().__init__()
        # On the meta device, because PyTorch's own initialisation would use the global random state.
        with torch.device("meta"):
            self.body = _convolutions(shape[0], settings)
            self.head = nn.Linear(settings.widths[-1], num_classes)
        _initialise(self, settings.seed, scale=1.0)

    def features(self, x: Tensor) -> Tensor:
        """Compute features (B, F) of images `x` (B, C, H, W) in [-1, 1]; none is negative."""
        return self.body(x).mean(dim=(2, 3))  # (B, F)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, K) of images `x` (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))  # (B, K)

    def loss(self, x: Tensor, labels: Tensor, draws: np.random.Generator) -> Tensor:
        """Compute the cross-entropy, a scalar, of images (B, C, H, W) with labels (B,). `draws` is not used."""
        return F.cross_entropy(self(x), labels)

    def scores(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return 1 for each image (B, C, H, W) that is classified as its label (B,), else 0: (B,)."""
        return (self(x).argmax(dim=1) == labels).double()  # (B,)

    @staticmethod
    def told(score: float) -> str:
        """Format the mean score for a name: "acc .98"."""
        return f"acc {f'{score:.2f}'.removeprefix('0')}"


class AutoencoderNetwork(nn.Module):
    """An autoencoder with F numbers in the middle, which are the features; each has variance 1 in training.

    It learns to reconstruct the image, and to recognise an image that was shifted a little (a contrastive loss: van den
    Oord et al. 2018, eq. 4; Chen et al. 2020, eq. 1). Without the second, properties that many images share, such as
    sharpness and noise, would hardly show in the features.
    """

    kind = "autoencoder"
    score = "error"

    def __init__(self, shape: tuple[int, int, int], settings: ExtractorSettings) -> None:
        super().__init__()
        channels, *size = shape
        dims, strides = settings.widths[-1], _strides(settings)
        h, w = (-(-side // int(np.prod(strides))) for side in size)
        with torch.device("meta"):
            self.body = _convolutions(channels, settings)
            self.narrow = nn.Linear(dims * h * w, dims)
            self.norm = nn.BatchNorm1d(dims, affine=False)
            layers: list[nn.Module] = [nn.Linear(dims, dims * h * w), nn.Unflatten(1, (dims, h, w))]
            before = dims
            for width, stride in zip((*settings.widths[-2::-1], channels), reversed(strides), strict=True):
                layers += [nn.BatchNorm2d(before), nn.ReLU()]
                layers += [nn.ConvTranspose2d(before, width, stride + 2, stride, 1)]  # `stride` times the size
                before = width
            self.decoder = nn.Sequential(*layers)
        # At full scale the first reconstructions are far too bright, and learning starts late.
        _initialise(self, settings.seed, scale=0.4)

    def features(self, x: Tensor) -> Tensor:
        """Compute features (B, F) of images `x` (B, C, H, W) in [-1, 1]."""
        return self.norm(self.narrow(self.body(x).flatten(1)))  # (B, F)

    def loss(self, x: Tensor, labels: Tensor, draws: np.random.Generator) -> Tensor:
        """Compute the loss, a scalar, of reconstructing and recognising images (B, C, H, W). `labels` is not used."""
        features = self.features(x)  # (B, F)
        moved = self.features(_moved(x, draws))  # (B, F)
        alike = F.normalize(features, dim=1) @ F.normalize(moved, dim=1).T  # (B, B), cosines
        knowing = F.cross_entropy(alike / _TEMPERATURE, torch.arange(len(x)))
        return self._errors(features, x).mean() + _CONTRAST * knowing

    def scores(self, x: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean squared error (B,) of each image (B, C, H, W), with pixels from -1 to 1."""
        return self._errors(self.features(x), x).double()  # (B,)

    def _errors(self, features: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        restored = self.decoder(features)[..., :height, :width]  # (B, C, H, W); the strides may have rounded up
        return (restored - x).square().mean(dim=(1, 2, 3))  # (B,)

    @staticmethod
    def told(score: float) -> str:
        """Format the mean score for a name: "error .012"."""
        return f"error {f'{score:.3f}'.removeprefix('0')}"


Network = ClassifierNetwork | AutoencoderNetwork


def has_classes(data: ImageSet) -> bool:
    """Return whether the images have at least two classes."""
    return data.num_classes >= 2


def network_for(data: ImageSet, settings: ExtractorSettings) -> Network:
    """Create an untrained network: a classifier if the images have classes, else an autoencoder."""
    if has_classes(data):
        return ClassifierNetwork(data.shape, data.num_classes, settings)
    return AutoencoderNetwork(data.shape, settings)


def _strides(settings: ExtractorSettings) -> list[int]:
    return [settings.stem_stride] + [2] * (len(settings.widths) - 1)


def _convolutions(channels: int, settings: ExtractorSettings) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = channels
    for width, stride in zip(settings.widths, _strides(settings), strict=True):
        layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers)


@torch.no_grad()
def _initialise(network: nn.Module, seed: int, scale: float) -> None:
    """Initialise a network on the meta device from a seed, by He's and Glorot's rules times `scale`."""
    network.to_empty(device="cpu")
    source = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=source)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=source)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_parameters()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.weight.mul_(scale)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _moved(x: Tensor, draws: np.random.Generator) -> Tensor:
    """Shift all images (B, C, H, W) by the same random distance, up to an eighth of their size."""
    height, width = x.shape[2:]
    reach = max(1, min(height, width) // 8)
    down, right = draws.integers(2 * reach + 1, size=2).tolist()
    padded = F.pad(x, (reach,) * 4, mode="replicate")  # (B, C, H + 2 reach, W + 2 reach)
    return padded[..., down : down + height, right : right + width]  # (B, C, H, W)
