"""Selection of the device to run on."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """Return CUDA if it is available, otherwise MPS, otherwise the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_of(name: str) -> torch.device:
    """Return the device with this name, after checking that it works.

    Raises:
        ValueError: `name` is not the name of a device, or the device is not available.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch was built without that backend
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name} cannot be used ({reason}); expected cpu, cuda, cuda:1 or mps") from error
    return device
