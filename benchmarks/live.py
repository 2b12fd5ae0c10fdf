"""Measurement of the peak memory of tensors while a function runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], object]) -> int:
    """Measure the maximum number of bytes alive at once in the storages that `run` creates.

    The result is exact and reproducible on every device: a dispatch mode sees every operator, records the storages that
    are new in its outputs, and counts after each operator, while its inputs are still held, which of them are alive.
    Views and in-place results add nothing. Scratch space inside a kernel is not counted.
    """
    mode = _Live()
    with mode:
        run()
    return mode.peak


class _Live(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.peak, self._created = 0, dict[StorageWeakRef, int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_reference(tensor) for tensor in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        new = {_reference(tensor): tensor.untyped_storage().nbytes() for tensor in _tensors(out)}
        self._created |= {reference: size for reference, size in new.items() if reference not in given}
        self._created = {reference: size for reference, size in self._created.items() if not reference.expired()}
        self.peak = max(self.peak, sum(self._created.values()))
        return out


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _reference(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())
