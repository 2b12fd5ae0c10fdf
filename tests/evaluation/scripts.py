"""TorchScript extractors so small that they take milliseconds."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """(B, 3, H, W) uint8 to (B, 6), with weights of a seed's."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x.float() / 127.5 - 1.0)).mean(dim=(2, 3))  # (B, 6)


class Maps(nn.Module):
    """Not one row per image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()  # (B, 3, H, W)


class Infinite(nn.Module):
    """A value that is no number."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() / 0.0).mean(dim=(2, 3))  # (B, 3)


def saved(module: nn.Module, path: Path) -> Path:
    """The module as a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return path
