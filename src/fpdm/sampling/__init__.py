"""Budgeted sampling: a number of block passes, shared out over timesteps and iterations."""

from fpdm.sampling.allocation import (
    ALLOCATIONS,
    Adaptive,
    Allocation,
    AllocationState,
    Constant,
    Decreasing,
    Increasing,
    Probed,
    probe,
)
from fpdm.sampling.budget import Budget
from fpdm.sampling.guidance import Denoiser, Guided
from fpdm.sampling.prediction import FromEpsilon, predicting_v
from fpdm.sampling.sampler import SampleState, sample
from fpdm.sampling.steps import DDPM, STEPS, Denoised, DiffusersStep, Step, Stepped, ddim, make_step, second_order
from fpdm.sampling.timesteps import custom, grid, linspace, phi_power, trailing

__all__ = [
    "ALLOCATIONS",
    "DDPM",
    "STEPS",
    "Adaptive",
    "Allocation",
    "AllocationState",
    "Budget",
    "Constant",
    "Decreasing",
    "Denoised",
    "Denoiser",
    "DiffusersStep",
    "FromEpsilon",
    "Guided",
    "Increasing",
    "Probed",
    "SampleState",
    "Step",
    "Stepped",
    "custom",
    "ddim",
    "grid",
    "linspace",
    "make_step",
    "phi_power",
    "predicting_v",
    "probe",
    "sample",
    "second_order",
    "trailing",
]
