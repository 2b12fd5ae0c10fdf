"""What PyTorch's tensors take in memory, counted as they are made."""

from __future__ import annotations

from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """The most bytes of tensors made within it that existed at once after an operation."""

    bytes = 0

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[StorageWeakRef, int] = {}
        self.most = 0  # of those, some of which may be gone

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self.most += storage.nbytes() - self.alive.get(reference, 0)
                self.alive[reference] = storage.nbytes()
        if self.most > self.bytes:
            self.alive = {reference: size for reference, size in self.alive.items() if not reference.expired()}
            self.most = sum(self.alive.values())
            self.bytes = max(self.bytes, self.most)
        return result
