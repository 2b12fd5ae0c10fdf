"""Gather and shard tensors that are spread over processes (FSDP). All processes must make the same calls."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def check_sharding(accelerator: Accelerator) -> None:
    """Check that the weights keep their names when they are sharded.

    Raises:
        ValueError: FSDP version 1 is used, which flattens all weights into one tensor.
    """
    if accelerator.distributed_type is not DistributedType.FSDP:
        return
    plugin = accelerator.state.fsdp_plugin
    if plugin is None or plugin.fsdp_version != 2:
        raise ValueError(
            "fsdp_version is 1, which hides the weights' names; expected 2 (accelerate launch --fsdp_version 2)"
        )


def is_sharded(model: nn.Module) -> bool:
    """Return whether each process holds only a shard of the weights. accelerate may not have sharded any."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def gather_full(tensor: Tensor) -> Tensor:
    """Return the full tensor of a sharded one, and any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a full tensor on the device of `like`, and sharded as `like` is."""
    tensor = tensor.to(like.device)
    return distribute_tensor(tensor, like.device_mesh, like.placements) if isinstance(like, DTensor) else tensor


@torch.no_grad()
def load_sharded(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy full values into parameters by name, sharded as these are."""
    for name, parameter in parameters.items():
        parameter.copy_(shard_like(values[name], parameter))
