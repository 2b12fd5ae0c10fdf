"""Exit codes, and the suggestion at the end of a message."""

from __future__ import annotations

import signal

import pytest

from fpdm.errors import CheckpointError, FPDMError, Interrupted, RunError, did_you_mean


def test_own_errors_exit_with_3_and_a_signal_with_128_and_its_number() -> None:
    assert {FPDMError("a").exit_code, RunError("a").exit_code, CheckpointError("a").exit_code} == {3}
    assert Interrupted("a", signal.SIGTERM).exit_code == 143
    assert Interrupted("a", signal.SIGINT).exit_code == 130
    assert str(Interrupted("saved", signal.SIGINT)) == "saved"
    assert Interrupted.exit_code == 3  # one signal's code is not the next one's


@pytest.mark.parametrize(
    ("word", "says"), [("trian", "; did you mean train?"), ("sampel", "; did you mean sample?"), ("zzz", "")]
)
def test_only_a_near_word_is_suggested(word: str, says: str) -> None:
    assert did_you_mean(word, iter(("sample", "train", "compare"))) == says
