"""Tensors that are spread over processes (FSDP), put together and taken apart. All processes must call alike."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def check_sharding(accelerator: Accelerator) -> None:
    """Refuse a way of spreading weights that hides their names.

    Raises:
        ValueError: By FSDP's first version, which makes one flat tensor of the weights.
    """
    if accelerator.distributed_type is not DistributedType.FSDP:
        return
    plugin = accelerator.state.fsdp_plugin
    if plugin is None or plugin.fsdp_version != 2:
        raise ValueError(
            "fsdp_version is 1, which hides the weights' names; expected 2 (accelerate launch --fsdp_version 2)"
        )


def is_sharded(model: nn.Module) -> bool:
    """Whether each process has a part of the weights only. Asked of them: accelerate may not have spread any."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def gather_full(tensor: Tensor) -> Tensor:
    """The whole of a spread tensor; any other is whole."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` is: on its device, and spread as it is."""
    tensor = tensor.to(like.device)
    return distribute_tensor(tensor, like.device_mesh, like.placements) if isinstance(like, DTensor) else tensor


@torch.no_grad()
def load_sharded(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give parameters whole values by name."""
    for name, parameter in parameters.items():
        parameter.copy_(shard_like(values[name], parameter))
