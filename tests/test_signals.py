"""Signals are collected while a run can stop, and handled as before afterwards."""

from __future__ import annotations

import signal

import pytest

from fpdm.signals import stop_signals

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


def test_each_signal_is_collected_and_nothing_is_interrupted() -> None:
    with stop_signals() as received:
        for number in NUMBERS:
            signal.raise_signal(number)
        assert received == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_at_once_means_at_once(number: signal.Signals) -> None:
    with stop_signals(at_once=True) as received:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert received == [number]


def test_the_handlers_of_before_come_back_after_an_error_too() -> None:
    def fail() -> None:
        with stop_signals():
            assert before != [signal.getsignal(number) for number in NUMBERS]
            raise KeyError

    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(KeyError):
        fail()
    assert before == [signal.getsignal(number) for number in NUMBERS]
