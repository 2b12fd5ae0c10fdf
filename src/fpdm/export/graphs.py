"""The graphs that a model is cut into, so that whoever runs them decides how often the middle is iterated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fpdm.autoencoder.interface import Autoencoder
from fpdm.autoencoder.vae import VAE
from fpdm.models.block import Modulation
from fpdm.models.middle import Context
from fpdm.models.transformer import DiffusionTransformer


@dataclass(frozen=True)
class Graph:
    """A part of a model: a module whose arguments and results have names.

    An output of one graph is the input of that name of another.

    Attributes:
        name: Its name.
        module: The module, on the CPU.
        example: Arguments for a batch of two.
        inputs: Names of the arguments.
        outputs: Names of the results.
        dynamic: For each argument, the names of its axes whose length may change.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: tuple[dict[int, str], ...]


class _Start(nn.Module):
    """Embeddings, pre blocks, and what is constant over the iterations of a step."""

    def __init__(self, model: DiffusionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        h, everything, outer = self.model.start(x, t, y)
        context = self.model.middle.prepare(h, everything)
        modulations = [one for block in context.modulations for one in block]  # of (B, 1, D)
        stacked = torch.cat(modulations, 1) if modulations else h[:, :0]  # (B, 6 * blocks, D)
        injected = () if context.injected is None else (context.injected,)  # (B, T, K)
        return h, outer, stacked, *injected


class _Iterate(nn.Module):
    """One iteration of the middle."""

    def __init__(self, model: DiffusionTransformer) -> None:
        super().__init__()
        self.middle = model.middle

    def forward(self, z: Tensor, modulations: Tensor, injected: Tensor | None = None) -> Tensor:
        each = modulations.split(1, dim=1)  # 6 * blocks of (B, 1, D)
        blocks = tuple(Modulation(*each[start : start + 6]) for start in range(0, len(each), 6))
        return self.middle.iterate(z, Context(blocks, injected))  # (B, T, D)


class _Finish(nn.Module):
    """Post blocks and head."""

    def __init__(self, model: DiffusionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, conditioning: Tensor) -> Tensor:
        return self.model.finish(z, conditioning)  # (B, C or 2C, H, W)


class _Decode(nn.Module):
    """Decoder of the latents that the network makes."""

    def __init__(self, autoencoder: VAE) -> None:
        super().__init__()
        self.model, self.pad = autoencoder.model, autoencoder.pad
        self.register_buffer("scale", autoencoder.scale.float().cpu())  # (1 or c, 1, 1)
        self.register_buffer("shift", autoencoder.shift.float().cpu())  # (1 or c, 1, 1)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, latents: Tensor) -> Tensor:
        images = self.model.decode(latents / self.scale + self.shift).sample  # type: ignore[operator]
        height, width = images.shape[2:]
        return images[:, :, self.pad : height - self.pad, self.pad : width - self.pad]  # (B, C, H, W)


def graphs_of(model: DiffusionTransformer, autoencoder: Autoencoder) -> list[Graph]:
    """Cut a model into graphs.

    Args:
        model: The network, on the CPU.
        autoencoder: Decoder of its latents, on the CPU, or pixels.

    Returns:
        Its graphs in the order of their use: "start" once for each step, "iterate" as often as the runtime wants (for a
        stack of blocks, as often as `applications` says), "finish" once for each step, and for latents "decode" once
        for each image. A model without blocks in its middle has no "iterate".
    """
    shape = model.shape
    size = (2, shape.in_channels, shape.image_size, shape.image_size)
    x = torch.randn(size, generator=torch.Generator().manual_seed(0))  # (B, C, H, W)
    t, y = torch.tensor([10.0, 500.0]), torch.tensor([0, shape.num_classes])  # (B,)
    start = _Start(model)
    with torch.no_grad():
        z, conditioning, *context = start(x, t, y)
    batch, tokens = {0: "batch"}, {0: "batch", 1: "tokens"}
    constants = ("modulations", "injected")[: len(context)]
    graphs = [Graph("start", start, (x, t, y), ("x", "t", "y"), ("z", "conditioning", *constants), (batch,) * 3)]
    if applications(model) != 0:
        axes = (tokens, batch, tokens)[: 1 + len(context)]
        graphs.append(Graph("iterate", _Iterate(model), (z, *context), ("z", *constants), ("z_next",), axes))
    graphs.append(
        Graph("finish", _Finish(model), (z, conditioning), ("z", "conditioning"), ("prediction",), (batch, batch))
    )
    if isinstance(autoencoder, VAE):
        axes = {0: "batch", 2: "height", 3: "width"}
        graphs.append(Graph("decode", _Decode(autoencoder), (x,), ("latents",), ("images",), (axes,)))
    return graphs


def applications(model: DiffusionTransformer) -> int | None:
    """Return how often "iterate" is to be applied in a step; None if that may be chosen."""
    if model.cost().middle.adjustable:
        return None
    return model.shape.repeats if model.shape.middle_blocks else 0


def evaluate(graphs: Sequence[Graph], x: Tensor, t: Tensor, y: Tensor, count: int) -> Tensor:
    """Evaluate a model by its graphs, in PyTorch.

    Args:
        graphs: The graphs.
        x: Noisy images or latents, (B, C, H, W).
        t: Timesteps, (B,) float32.
        y: Labels, (B,) int64.
        count: How often "iterate" is applied.

    Returns:
        The raw prediction, (B, C or 2C, H, W).
    """
    by_name = {graph.name: graph for graph in graphs}
    known = dict(zip(by_name["start"].outputs, by_name["start"].module(x, t, y), strict=True))
    for _ in range(count):
        known["z"] = by_name["iterate"].module(*(known[name] for name in by_name["iterate"].inputs))  # (B, T, D)
    return by_name["finish"].module(known["z"], known["conditioning"])  # (B, C or 2C, H, W)
