"""A model with weights of 32, 16 or 8 bits, made of the same file, one tensor after the other.

Those of 8 bits are the dynamic quantization of PyTorch (`torch.ao`): each linear layer has a scale for each of its
outputs, and quantizes its inputs as they come; all else stays in float32. It is no option of the package, because
PyTorch will remove it, and what it does to images is not measured.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import TransformerConfig
from fpdm.models.embeddings import TimestepEmbedding
from fpdm.models.middle import Injection, MLPInjection
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.pretrained import recipe_without_data
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from fpdm.runs.samples import sample_to_folder

BITS = (32, 16, 8)


class _Parts(Injection):
    """The paper's injection in separate layers, as its own cuts a weight in two."""

    def __init__(self, own: MLPInjection) -> None:
        super().__init__()
        self.project, self.fc2, width = own.project, own.fc2, own.width
        self.from_z, self.from_u = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, 2 * width)
        self.from_z.weight = nn.Parameter(own.fc1.weight[:, :width])
        self.from_u.weight, self.from_u.bias = nn.Parameter(own.fc1.weight[:, width:]), own.fc1.bias

    def prepare(self, x: Tensor) -> Tensor:
        return self.from_u(self.project(x))  # (B, T, 2D)

    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.from_z(z) + injected, approximate="tanh"))  # (B, T, D)


def _quantized(module: nn.Module) -> nn.Module:
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will be removed
        return quantize_dynamic(nn.Sequential(module), {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)[0]


def with_weights(module: Any, read: Callable[[str], Tensor], bits: int, prefix: str = "") -> nn.Module:
    """Give a module on the meta device its weights, one after the other, and return what then takes its place."""
    float_first = isinstance(module, (MLPInjection, TimestepEmbedding))  # the latter asks its weights for their dtype
    for name, part in module.named_children():
        inner = 32 if bits == 8 and float_first else bits
        setattr(module, name, with_weights(part, read, inner, f"{prefix}{name}."))
    for name, _ in module.named_parameters(recurse=False):
        value = read(prefix + name).to(torch.bfloat16 if bits == 16 else torch.float32)
        setattr(module, name, nn.Parameter(value, requires_grad=False))
    if bits == 8 and isinstance(module, MLPInjection):
        return _quantized(_Parts(module))
    return _quantized(module) if bits == 8 and isinstance(module, nn.Linear) else module


def read_model(folder: Path, bits: int) -> DiffusionTransformer:
    """Read a saved pipeline's network with weights of 32, 16 or 8 bits."""
    values = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    fields = {one.name: values[one.name] for one in dataclasses.fields(TransformerConfig)}
    model = DiffusionTransformer.without_weights(TransformerConfig(**fields))
    with safe_open(folder / "transformer" / "diffusion_pytorch_model.safetensors", "np") as file:
        with_weights(model, lambda name: torch.from_numpy(file.get_tensor(name)), bits)
    return model.eval()


def sample_bits(folder: str, bits: int, out: str) -> None:
    """Make one image of a saved pipeline with weights of 32, 16 or 8 bits."""
    model = read_model(Path(folder), bits)
    recipe = recipe_without_data(Path(folder).name, model.shape, Schedule(), AutoencoderConfig())
    run = Run(recipe, model, Progress(), f"of {bits} bits")
    sample_to_folder(run, run.complete({"budget": 28}).plan, 1, Path(out), seed=0, batch_size=1)
