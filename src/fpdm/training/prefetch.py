"""Prepare the next batch in a thread while the current one is trained on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fpdm.training.batch import Batch


class Prefetcher:
    """Makes batches ahead, by the position of their first image; a batch is the same whenever it is made.

    Args:
        make: Makes the batch at the positions `first` .. `first + count - 1`.

    Attributes:
        waited: Seconds that `take` has waited for batches.
    """

    def __init__(self, make: Callable[[int, int], Batch]) -> None:
        self.waited = 0.0
        self._make = make
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, int], Future[Batch]] | None = None

    def take(self, first: int, count: int, following: int) -> Batch:
        """Return a batch, and begin to make the one of as many images at position `following`."""
        start = time.perf_counter()
        batch = self._next[1].result() if self._next and self._next[0] == (first, count) else self._make(first, count)
        self.waited += time.perf_counter() - start
        self._next = (following, count), self._thread.submit(self._make, following, count)
        return batch
