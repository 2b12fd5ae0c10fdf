"""Measure the seconds of training steps, excluding time during which the process was stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepTimer:
    """Timer of training steps. A step during which the process was stopped (SIGSTOP, Ctrl-Z) counts as the one before.

    A process is told that it continues (SIGCONT), but not for how long it was stopped.
    """

    def __init__(self) -> None:
        self._start = self._last = 0.0
        self._continued = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notice within this context that the process was continued. Only the main thread can use it."""

        def mark(*_: object) -> None:
            self._continued = True

        old = signal.signal(signal.SIGCONT, mark)
        try:
            yield
        finally:
            signal.signal(signal.SIGCONT, old)

    def start(self) -> None:
        """Start a step."""
        self._continued = False
        self._start = time.monotonic()

    def stop(self) -> float:
        """End the step and return its seconds."""
        elapsed = time.monotonic() - self._start
        self._last = min(elapsed, self._last) if self._continued else elapsed
        return self._last
