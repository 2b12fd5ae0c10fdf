"""The signals that ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(*, at_once: bool = False) -> Iterator[list[int]]:
    """Collect the signals that ask a run to stop, so that the step under way can end.

    Args:
        at_once: Raise KeyboardInterrupt at each as well, where nothing under way is worth its end.
    """
    received: list[int] = []

    def receive(number: int, _: object) -> None:
        received.append(number)
        if at_once:
            raise KeyboardInterrupt

    # Clusters announce the end of a job's time by SIGTERM or, where they are asked to, SIGUSR1.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    old = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
