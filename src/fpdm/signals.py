"""Handle the signals that ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(*, at_once: bool = False) -> Iterator[list[int]]:
    """Collect the signals that ask a run to stop, so that the current step can finish.

    Args:
        at_once: Raise KeyboardInterrupt as well, where nothing needs to finish.
    """
    received: list[int] = []

    def receive(number: int, _: object) -> None:
        received.append(number)
        if at_once:
            raise KeyboardInterrupt

    # Clusters announce the end of a job's time by SIGTERM or, on request, by SIGUSR1.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    old = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
