"""An optimiser's state as named tensors, which a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Named = Iterable[tuple[str, torch.nn.Parameter]]


def optimizer_state(parameters: Named, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """By "parameter/slot", such as "norm.weight/exp_avg"."""
    return {
        f"{name}/{slot}": value
        for name, parameter in parameters
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_state(parameters: Named, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    """Give an optimiser of these parameters, in their order, what `moments` took from one."""
    state: dict[int, dict[str, Tensor]] = {}
    for i, (name, _) in enumerate(parameters):
        slots = {key.rpartition("/")[2]: value for key, value in saved.items() if key.rpartition("/")[0] == name}
        if slots:
            state[i] = slots
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
