"""The classifier that judges in results/fashion-mnist as a TorchScript file, which fpdm evaluate and reference take.

    python results/fashion-latents/make_extractor.py classifier.pt

It trains the classifier unless it is in ~/.cache/fpdm/classifiers (results/fashion-mnist/classifiers has it).
"""

import sys

import torch
from torch import Tensor, nn

from fpdm.data.sources.named import load
from fpdm.evaluation.extractor import train_extractor


class Classifier(nn.Module):
    """(B, 3, H, W) uint8, three equal channels, to features (B, F)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """The features."""
        grey = x[:, :1].float() / 127.5 - 1.0  # (B, 1, H, W)
        return self.body(grey).mean(dim=(2, 3))  # (B, F)


judge = train_extractor(load("fashion-mnist", "train"), load("fashion-mnist", "test"))
torch.jit.script(Classifier(judge.network.body).eval()).save(sys.argv[1])
print(f"{judge.name}: saved as {sys.argv[1]}")
