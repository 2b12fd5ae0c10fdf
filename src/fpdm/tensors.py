"""Read and write safetensors files that anyone may have made, and check that they hold real numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fpdm.files import check_regular

_WEIGHTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, on the CPU. They are mapped, not read.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not a regular file, or is damaged. The message begins with the path.
    """
    check_regular(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write tensors as a safetensors file, with the permissions of any other new file.

    Args:
        path: The file.
        tensors: Tensors by name, on any device.
        about: Metadata for the file's header.

    Raises:
        OSError: Writing failed, because the disk is full, for example.
    """
    path.touch()
    mode = path.stat().st_mode  # the library would let nobody but the user read it
    values = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(values, path, {**(about or {})})
    except SafetensorError as error:  # raised for errors of the system too
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    path.chmod(mode)


def check_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors can be the weights of a network.

    Raises:
        ValueError: One is not made of floating-point numbers of 16, 32 or 64 bits. Complex numbers would lose their
            imaginary parts, and numbers of 8 bits and less come with scales that are not known here.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _WEIGHTS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{path}: {name} is {kind}; expected floating-point numbers of 16, 32 or 64 bits")
