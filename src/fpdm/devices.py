"""The device to run on."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: It is no device's name, or that device is not to be had.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch was built without it
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the device {name} cannot be used ({reason}); expected cpu, cuda, cuda:1 or mps") from error
    return device
