"""Exceptions that the command line turns into exit codes, and the texts of messages.

A user's mistake is a plain `ValueError` (exit code 2).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class FPDMError(Exception):
    """Base class of the package's own errors. The message is one line for the user."""

    exit_code = 3


class RunError(FPDMError):
    """The run cannot continue: divergence, a full disk, no usable checkpoint (exit code 3)."""


class Interrupted(FPDMError):
    """A signal asked the run to stop; a checkpoint was saved (exit code 128 + signal)."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class CheckpointError(FPDMError):
    """A checkpoint is damaged, foreign, or not fit to be saved (exit code 3)."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Suggest the known word that is nearest, as the end of an error message; empty if none is near.

    Args:
        word: The word.
        known: The known words.
        cutoff: How near it has to be, from 0 (not at all) to 1 (the same).
    """
    near = difflib.get_close_matches(word, list(known), 1, cutoff)
    return f"; did you mean {near[0]}?" if near else ""


def printable(text: object) -> str:
    r"""Escape whatever a terminal could interpret, as in Python's string literals: \n, \x1b, \u202e, \udce9.

    What people type stays as it is, in any script, so that escaping twice changes nothing. Every name that comes from a
    user's files or words passes through here before it is printed.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


_VALUE = re.compile(r"""'[^']*'|"[^"]*"|\S+""")  # names, paths and numbers
_SHORTEST = 48  # a value of this length is not shortened any more


def shorten(message: str, length: int) -> str:
    """Shorten a message to `length` characters by the middle of its longest values, so that both ends of each stay."""
    while len(message) > length:
        value = max(_VALUE.findall(message), key=len)
        if len(value) <= _SHORTEST:
            return _without_middle(message, length)
        message = message.replace(value, _without_middle(value, max(_SHORTEST, len(value) - len(message) + length)))
    return message


def _without_middle(text: str, length: int) -> str:
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"
