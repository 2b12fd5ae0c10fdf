"""Configurations are read without PyTorch, and a run's folder without the trainer."""

from __future__ import annotations

import subprocess
import sys

import pytest

CONFIGURATIONS = (
    *("fpdm.autoencoder.config", "fpdm.compare.settings", "fpdm.data.config", "fpdm.data.manifest"),
    *("fpdm.diffusion.objective", "fpdm.diffusion.schedule", "fpdm.fid.settings"),
    *("fpdm.models.config", "fpdm.models.cost", "fpdm.models.description"),
    *("fpdm.runs.recipe", "fpdm.runs.recipes", "fpdm.runs.train_config"),
    *("fpdm.sampling.budget", "fpdm.sampling.plan", "fpdm.training.autoencoder.config"),
)
HEAVY = ("torch", "diffusers", "accelerate", "matplotlib", "numpy", "PIL")


def loaded(statement: str) -> set[str]:
    """The names of all modules that a fresh interpreter holds after this statement."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", CONFIGURATIONS)
def test_a_configuration_imports_nothing_heavy(module: str) -> None:
    assert not loaded(f"import {module}") & {*HEAVY}


def test_every_recipe_is_made_and_written_without_pytorch() -> None:
    recipes = "from fpdm.runs.recipes import RECIPES, make_recipe"
    named = "[make_recipe(name).to_json() for name in RECIPES if name != 'folder']"
    assert not loaded(f"{recipes}; {named}") & {*HEAVY}


def test_a_run_is_read_without_the_trainer() -> None:
    modules = loaded("import fpdm.runs.run, fpdm.runs.data_card, fpdm.runs.checkpoint")
    # What imports accelerate is the trainer, and diffusers.
    assert not {name for name in modules if name.startswith(("matplotlib", "fpdm.training", "fpdm.processes"))}
    assert "torch" in modules  # this test sees what is imported


def test_sampling_imports_only_what_it_needs() -> None:
    modules = loaded("import fpdm.commands.sample, fpdm.runs.pretrained, fpdm.runs.price, fpdm.runs.samples")
    others = ("scipy", "torchvision", "datasets", "matplotlib", "diffusers.models.autoencoders", "diffusers.schedulers")
    later = ("fpdm.training", "fpdm.evaluation", "fpdm.fid", "fpdm.compare", "fpdm.pipeline", "fpdm.importing")
    assert not {name for name in modules if name.startswith((*others, *later))}


def test_the_package_shows_its_face_without_importing_what_is_behind_it() -> None:
    assert not loaded("import fpdm; dir(fpdm); fpdm.__version__") & {*HEAVY}
    modules = loaded("from fpdm import FPDMPipeline")
    # The network's module too, which a saved pipeline names.
    assert {"fpdm.pipeline.pipeline_fpdm", "fpdm.models.transformer", "diffusers"} <= modules
    assert not {name for name in modules if name.startswith(("matplotlib", "fpdm.training"))}
