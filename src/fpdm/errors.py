"""Exceptions that the command line turns into exit codes. A user's mistake is a plain `ValueError` (exit code 2)."""

from __future__ import annotations

import difflib
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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the known word that is nearest, as the end of an error message; empty if none is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
