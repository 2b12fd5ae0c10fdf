import os
import signal

import pytest

from fpdm.training.timer import StepTimer


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    time = [0.0]
    monkeypatch.setattr("fpdm.training.timer.time.monotonic", lambda: time[0])
    return time


def step(clock: StepTimer, now: list[float], seconds: float, *, continued: bool = False) -> float:
    clock.start()
    now[0] += seconds
    if continued:  # SIGCONT does nothing to a process that runs, but it is heard
        os.kill(os.getpid(), signal.SIGCONT)
    return clock.stop()


def test_step_that_the_process_was_stopped_in_counts_as_the_one_before(now: list[float]) -> None:
    clock = StepTimer()
    with clock.listening():
        steps = [(2.0, False), (5000.0, True), (3.0, False), (1.0, True)]
        assert [step(clock, now, seconds, continued=continued) for seconds, continued in steps] == [2.0, 2.0, 3.0, 1.0]


def test_stop_between_steps_is_not_heard_of_later(now: list[float]) -> None:
    clock = StepTimer()
    with clock.listening():
        step(clock, now, 2.0)
        os.kill(os.getpid(), signal.SIGCONT)
        assert step(clock, now, 3.0) == 3.0


def test_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGCONT)
    with StepTimer().listening():
        assert signal.getsignal(signal.SIGCONT) != before
    assert signal.getsignal(signal.SIGCONT) == before
