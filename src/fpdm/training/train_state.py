"""The tensors of a training that a checkpoint holds: weights, averaged weights and the optimiser's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from fpdm.configuration import NonNegativeInt
from fpdm.runs import checkpoint
from fpdm.runs.layout import EMA, MODEL, OPTIMIZER
from fpdm.training.sharding import gather_full, load_sharded, shard_like

M = TypeVar("M", bound=torch.nn.Module)


@dataclass(frozen=True)
class TrainState(Generic[M]):
    """A network with its optimiser and its averaged weights, which may be sharded over processes.

    Attributes:
        model: The network, with its raw weights.
        optimizer: The optimiser of the network's parameters, in their order.
        ema: The exponential moving average of the parameters, in their order.
    """

    model: M
    optimizer: torch.optim.Optimizer
    ema: EMAModel

    def parameters(self, *, averaged: bool) -> dict[str, Tensor]:
        """Return the raw or the averaged weights by name, sharded as they are."""
        names = dict(self.model.named_parameters())
        return dict(zip(names, self.ema.shadow_params, strict=True)) if averaged else {**names}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return all tensors in full, by the checkpoint's file and by name. All processes must call this."""
        slots = {
            f"{name}/{slot}": value
            for name, parameter in self.model.named_parameters()
            for slot, value in self.optimizer.state.get(parameter, {}).items()
        }
        groups = {MODEL: self.parameters(averaged=False), EMA: self.parameters(averaged=True), OPTIMIZER: slots}
        return {file: {name: gather_full(value) for name, value in group.items()} for file, group in groups.items()}

    def values(self) -> dict[str, int]:
        """Return what a checkpoint holds besides the tensors."""
        return {"ema_updates": self.ema.optimization_step}

    def load(self, found: checkpoint.Checkpoint) -> None:
        """Restore what `tensors` and `values` gave.

        Raises:
            CheckpointError: Something is missing, damaged, or does not fit the network.
        """
        updates = found.value("ema_updates", NonNegativeInt)  # type: ignore[arg-type]
        saved = {file: found.tensors(file) for file in (MODEL, EMA, OPTIMIZER)}
        weights = {file: self.parameters(averaged=file == EMA) for file in (MODEL, EMA)}
        for file, parameters in weights.items():
            checkpoint.check_names(found.path / file, saved[file], parameters)
        self._check_optimizer(found.path / OPTIMIZER, saved[OPTIMIZER])
        for file, parameters in weights.items():  # nothing is changed before all is checked
            load_sharded(parameters, saved[file])
        self.ema.optimization_step = updates
        self._load_optimizer(saved[OPTIMIZER])

    def _check_optimizer(self, path: Path, slots: Mapping[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        expected = {}
        for key, value in slots.items():
            parameter = parameters.get(key.rpartition("/")[0])
            if parameter is not None:
                expected[key] = parameter if value.ndim else torch.empty(())  # a slot without dimensions counts steps
        checkpoint.check_names(path, slots, expected)

    def _load_optimizer(self, saved: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for i, (name, parameter) in enumerate(self.model.named_parameters()):
            slots = {key.rpartition("/")[2]: value for key, value in saved.items() if key.rpartition("/")[0] == name}
            if slots:
                # PyTorch keeps the number of steps on the CPU.
                state[i] = {
                    slot: shard_like(value, parameter) if value.ndim else value for slot, value in slots.items()
                }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
