"""What can go wrong, for the one handler in the CLI. A user's mistake is a plain `ValueError` (exit code 2)."""

from __future__ import annotations


class FPDMError(Exception):
    """Base of the package's own errors; the message is one line for the user."""

    exit_code = 3


class RunError(FPDMError):
    """The run cannot go on: divergence, a full disk, no usable checkpoint (exit code 3)."""


class Interrupted(FPDMError):
    """A signal asked the run to stop; a checkpoint was saved (exit code 128 + signal)."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class CheckpointError(FPDMError):
    """A checkpoint is damaged, foreign, or not to be saved (exit code 3)."""
