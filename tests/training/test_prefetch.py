"""Batches that are made ahead: the right ones, in a thread, and errors where they are asked for."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from fpdm.training.batch import Batch
from fpdm.training.prefetch import Prefetcher


def test_the_following_batch_is_made_ahead_in_another_thread() -> None:
    made: list[tuple[int, int]] = []
    ahead = threading.Event()

    def make(first: int, count: int) -> Batch:
        made.append((first, count))
        if threading.current_thread() is not threading.main_thread():
            ahead.set()
        return cast(Batch, (first, count))

    batches = Prefetcher(make)
    assert cast(Any, batches.take(0, 4, 4)) == (0, 4)
    assert ahead.wait(60)
    assert cast(Any, batches.take(4, 4, 8)) == (4, 4)
    assert cast(Any, batches.take(20, 2, 22)) == (20, 2)  # another one than was expected
    assert cast(Any, batches.take(22, 2, 24)) == (22, 2)
    assert made[:4] == [(0, 4), (4, 4), (8, 4), (20, 2)] or made[:4] == [(0, 4), (4, 4), (20, 2), (8, 4)]
    assert made.count((22, 2)) == 1
    assert batches.waited > 0


def test_an_error_comes_when_its_batch_is_taken() -> None:
    def make(first: int, count: int) -> Batch:
        if first == 4:
            raise OSError("gone")
        return cast(Batch, first)

    batches = Prefetcher(make)
    batches.take(0, 4, 4)
    with pytest.raises(OSError, match="gone"):
        batches.take(4, 4, 8)
