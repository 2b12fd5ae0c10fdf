"""Exit codes, and the suggestion at the end of a message."""

from __future__ import annotations

import signal

import pytest

from fpdm.errors import CheckpointError, FPDMError, Interrupted, RunError, did_you_mean, printable, shorten


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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x9b2J\x07\x7f\u202e\u2028", r"\x9b2J\x07\x7f\u202e\u2028"),
        ("caf\udce9", r"caf\udce9"),
        ("été 猫 😀 C:\\x", "été 猫 😀 C:\\x"),
    ],
)
def test_what_a_terminal_could_interpret_is_escaped_once(name: str, shown: str) -> None:
    assert printable(name) == printable(printable(name)) == shown


def test_of_a_long_message_the_long_values_lose_their_middle() -> None:
    name, other = "/data/" + "x" * 300 + "/run", "y" * 300
    short = shorten(f"there is no run in {name}; expected '{other} {other}', say", 170)
    assert len(short) == 170
    assert short.startswith("there is no run in /data/xxx")
    assert "xx/run; expected 'yyy" in short
    assert short.endswith("yyy', say")


def test_a_message_of_short_words_loses_its_own_middle() -> None:
    assert shorten("a " * 300 + "end", 40).startswith("a a a a ")
    assert shorten("a " * 300 + "end", 40).endswith(" a a end")
    assert len(shorten("a " * 300 + "end", 40)) == 40
    assert shorten("as it is", 8) == "as it is"
