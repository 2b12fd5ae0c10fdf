"""The processes that work on one thing together."""

from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def processes() -> PartialState:
    """The processes that accelerate launch or torchrun started together, or this one alone.

    To be called before an `Accelerator` is made: without a GPU each of several would take itself for the only one.
    """
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not gpu)
