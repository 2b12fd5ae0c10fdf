"""The progress of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from fpdm.configuration import NonNegativeInt, NonNegativeNumber


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

    step: NonNegativeInt = 0
    seconds: NonNegativeNumber = 0.0
    macs: NonNegativeNumber = 0.0
    skipped: NonNegativeInt = 0
    skipped_in_a_row: NonNegativeInt = 0
