"""Seconds of work, without the time that the process was stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepTimer:
    """Times steps; one that the process was stopped in (SIGSTOP, Ctrl-Z) and continued counts as the one before.

    A process learns that it goes on (SIGCONT), and never for how long it stood still.
    """

    def __init__(self) -> None:
        self._start = self._last = 0.0
        self._continued = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, the clock hears that the process was continued. For the main thread only."""

        def hear(*_: object) -> None:
            self._continued = True

        old = signal.signal(signal.SIGCONT, hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGCONT, old)

    def start(self) -> None:
        """A step begins."""
        self._continued = False
        self._start = time.monotonic()

    def stop(self) -> float:
        """A step has ended; its seconds."""
        elapsed = time.monotonic() - self._start
        self._last = min(elapsed, self._last) if self._continued else elapsed
        return self._last
