"""The folder of a run can be read without what trains or draws it."""

import subprocess
import sys

import pytest

TRAINING = ("fpdm.training", "matplotlib")


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("layout, recipe, recipes, progress, metrics_log", (*TRAINING, "torch", "diffusers", "accelerate")),
        ("checkpoint, data_card", (*TRAINING, "diffusers", "accelerate")),
        ("run, samples", TRAINING),  # diffusers, which models are made with, imports accelerate
    ],
)
def test_reading_a_run_does_not_import_what_trains_it(modules: str, without: tuple[str, ...]) -> None:
    program = (
        f"import sys; from fpdm.runs import {modules}; print(*[name for name in {without} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
