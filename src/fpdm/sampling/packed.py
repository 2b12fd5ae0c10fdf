"""Networks whose linear layers are packed, for sampling on a CPU.

oneDNN, which comes with PyTorch, multiplies faster by weights that it has arranged in a layout of its own, and adds the
bias and the GELU within the product. The operators are those that `torch.compile` uses for weights that do not change.
They are private, so each process compares them with the public ones before it uses them.
"""

from __future__ import annotations

import copy
import functools
import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpdm.models.block import MLP, Attention
from fpdm.models.middle import Injection, LinearInjection, MLPInjection
from fpdm.models.transformer import DiffusionTransformer


def packed(model: DiffusionTransformer) -> DiffusionTransformer:
    """Return a network that gives a model's answers faster on a CPU, without gradients.

    It shares everything with the model except the linear layers that act on every token. Those are packed copies of the
    weights as they are now (`ModelCost.packed_memory`), which live as long as the network that is returned; the model
    does not know of them. Answers differ from the model's by rounding, and unlike those do not depend on the size of
    the batch.

    The model itself is returned if it is not in float32 on an x86 CPU, is compiled, has hooks or runs under autocast,
    or if PyTorch does not have the operators.
    """
    return _packed(model) if can_be_packed(model) else model


class PackedLinear(nn.Module):
    """A linear layer with a packed copy of its weights, followed by a tanh-GELU if `gelu` is true."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())  # (O, D)
        self.bias = None if bias is None else bias.detach()  # (O,)
        self.after = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *self.after)  # (B, T, O)


class _PackedMLP(nn.Module):
    def __init__(self, own: MLP) -> None:
        super().__init__()
        self.fc1 = PackedLinear(own.fc1.weight, own.fc1.bias, gelu=True)
        self.fc2 = PackedLinear(own.fc2.weight, own.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x))  # (B, T, D)


class _PackedInjection(Injection):
    def __init__(self, own: MLPInjection) -> None:
        super().__init__()
        self.own = own
        self.from_z = PackedLinear(own.fc1.weight[:, : own.width], None)
        self.fc2 = PackedLinear(own.fc2.weight, own.fc2.bias)

    def prepare(self, x: Tensor) -> Tensor:
        return self.own.prepare(x)  # (B, T, 2D)

    def forward(self, z: Tensor, injected: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.from_z(z) + injected, approximate="tanh"))  # (B, T, D)


_EVERY_TOKEN = {Attention: ("qkv", "proj"), LinearInjection: ("from_z",)}
"""Linear layers that act on every token in every iteration, besides those of an MLP."""


def _packed(module: Any) -> Any:
    """Return a module with packed layers that shares all else with this one, or this one if it has none to pack."""
    parts = module._modules
    # Not layers of adapters, or quantized ones.
    plain = all(type(part) is nn.Linear and type(part.weight) is nn.Parameter for part in parts.values())
    if isinstance(module, MLP):
        return _PackedMLP(module) if plain else module
    if isinstance(module, MLPInjection):
        return _PackedInjection(module) if plain else module
    names = _EVERY_TOKEN.get(type(module), ()) if plain else ()
    new = {
        name: PackedLinear(part.weight, part.bias) if name in names else part and _packed(part)
        for name, part in parts.items()
    }
    if all(new[name] is part for name, part in parts.items()):
        return module
    twin = copy.copy(module)
    twin._modules = new
    return twin


def can_be_packed(model: DiffusionTransformer) -> bool:
    """Whether `packed` packs anything of a model."""
    touched = ("_forward_hooks", "_forward_pre_hooks", "_compiled_call_impl")  # besides a `forward` of its own
    return (
        isinstance(model, DiffusionTransformer)  # and not its wrapper by torch.compile
        and not model.is_compiled
        and not torch.is_autocast_enabled("cpu")
        and all(one.dtype == torch.float32 and one.device.type == "cpu" for one in model.parameters())
        and not any("forward" in vars(one) or any(getattr(one, name) for name in touched) for one in model.modules())
        and are_operators_known()
    )


@functools.cache
def are_operators_known() -> bool:
    """Whether this PyTorch has the operators on this machine, and they compute what they should."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    rng = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=rng) for size in ((2, 3, 24), (40, 24)))  # (B, T, D), (O, D)
    plain = F.linear(x, weight, weight[:, 0])  # (B, T, O)
    try:
        found, curved = (PackedLinear(weight, weight[:, 0].contiguous(), gelu=gelu)(x) for gelu in (False, True))
    except (AttributeError, RuntimeError, TypeError):  # they are not there, or take other arguments
        return False
    close = functools.partial(torch.allclose, rtol=1e-4, atol=1e-4)
    return close(found, plain) and close(curved, F.gelu(plain, approximate="tanh"))
