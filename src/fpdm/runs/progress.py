"""How far a run has come, and what its steps measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a run has come; saved with every checkpoint.

    Attributes:
        step: Optimiser steps done, skipped ones included.
        seconds: Seconds of training steps.
        macs: Multiply-accumulates of training, over all processes.
        skipped: Steps without a finite gradient.
        skipped_in_a_row: Those at the end.
    """

    step: int = 0
    seconds: float = 0.0
    macs: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0


@dataclass(frozen=True)
class Metrics:
    """What a step measured on the images of its process.

    Attributes:
        loss: What was minimised.
        mse: The unweighted mean squared error on v.
        grad_norm: Before clipping, of the gradient averaged over the processes.
        iterations: Of the middle, mean per image.
        residual: The fixed point's largest; nan where it was not measured.
    """

    loss: float
    mse: float
    grad_norm: float
    iterations: float
    residual: float
