"""The processes that `accelerate launch` or `torchrun` starts to work together."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState

# For processes that meet only at the end. If one dies, the launcher ends the others.
PATIENCE = datetime.timedelta(days=30)


def processes(*, timeout: datetime.timedelta | None = None, cpu: bool = False) -> PartialState:
    """Return the processes that were started together, or this one alone.

    Call it before an `Accelerator` is made: without a GPU, each of several processes would take itself for the only
    one. The first call decides the arguments.

    Args:
        timeout: How long a process waits for the others; None for the backend's default.
        cpu: Whether several processes communicate on the CPU even if there is a GPU.
    """
    from accelerate import PartialState  # slow to import, and not needed to read data
    from accelerate.utils import parse_flag_from_env

    cpu = cpu and is_one_of_several()
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    options = {} if timeout is None else {"timeout": timeout}
    return PartialState(cpu=cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not gpu, **options)


def is_one_of_several() -> bool:
    """Whether a launcher has started this process with others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process. All processes must call it; each waits for the others."""
    return bool(gather([float(flag)]).any())


def gather(values: list[float]) -> Tensor:
    """Return the values of all P processes, (P, n) float64. All processes must call it; each waits for the others."""
    from accelerate import utils

    state = processes()
    own = torch.tensor([values], dtype=torch.float64)  # (1, n)
    return utils.gather(own.to(state.device)).cpu() if state.num_processes > 1 else own  # type: ignore[union-attr]


def local_processes() -> tuple[int, int]:
    """Return this process's number among those of its machine, and how many they are."""
    return int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
