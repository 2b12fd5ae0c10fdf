"""The progress of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of a training run, saved with every checkpoint.

    Attributes:
        step: Number of optimiser steps done, including skipped ones.
        seconds: Seconds of training steps.
        macs: Multiply-accumulates of training, over all processes.
        skipped: Number of steps skipped because the gradient was not finite.
        skipped_in_a_row: Number of skipped steps since the last that was not.
    """

    step: int = 0
    seconds: float = 0.0
    macs: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
