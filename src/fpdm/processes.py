"""The processes that work on one thing together."""

from __future__ import annotations

import datetime

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, reduce

# Of processes that meet only when all is done; should one die, the launcher ends the others.
PATIENCE = datetime.timedelta(days=30)


def processes(*, timeout: datetime.timedelta | None = None) -> PartialState:
    """The processes that accelerate launch or torchrun started together, or this one alone.

    To be called before an `Accelerator` is made: without a GPU each of several would take itself for the only one.

    Args:
        timeout: How long one waits for the others; None for the backend's own. The first call decides.
    """
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    options = {} if timeout is None else {"timeout": timeout}
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not gpu, **options)


def any_process(flag: bool) -> bool:
    """Whether any process says so; all of them have to ask, and each waits for the others."""
    votes = reduce(torch.tensor(float(flag), device=processes().device), "sum")
    return bool(votes > 0)  # type: ignore[operator]
