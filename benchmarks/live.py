"""The peak of the bytes that tensors hold while something runs, without what was there before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes alive at once among the storages that `run` creates.

    Exact on every device, and the same each time: every operator passes through a dispatch mode, which notes the
    storages that its inputs did not have and asks after each operator, its inputs still held, which of all that were
    noted are alive. Views and in-place results add nothing. A kernel's own scratch space is not seen.
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
