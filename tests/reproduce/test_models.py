"""Every model of the reproduction gets the same compute, width and schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fpdm.data.config import DataConfig
from fpdm.models.cost import model_cost
from fpdm.reproduce.models import EVERYWHERE, FPDM, Model, Training, ablation, deep_dit, dit, shared, stochastic
from fpdm.reproduce.scale import FULL, QUICK

DIGITS = DataConfig("digits")


@pytest.mark.parametrize("model", [FPDM, EVERYWHERE, dit(4), deep_dit(QUICK), shared(7)], ids=lambda one: one.name)
def test_compute_width_decay_and_batch_are_the_same(model: Model) -> None:
    recipe = model.recipe(QUICK, 3, DIGITS)
    train = recipe.train
    assert (train.macs, train.steps, train.decay, train.batch_size, train.seed) == (QUICK.macs, 0, 0.2, 16, 3)
    assert (recipe.model.width, recipe.model.heads, recipe.name) == (QUICK.width, QUICK.heads, model.name)


def test_the_exact_gradient_gets_as_many_steps_as_s_jfb() -> None:
    exact = ablation("exact", gradient="implicit", no_grad_iters=6, grad_iters=6).recipe(QUICK, 0, DIGITS)
    s_jfb = stochastic(6).recipe(QUICK, 0, DIGITS)
    step = QUICK.batch_size * model_cost(s_jfb.model).training_macs(3 + 3.5, 3)
    assert (exact.train.steps, exact.train.macs) == (round(QUICK.ablation_macs / step), 0)


def test_what_several_studies_show_is_what_the_recipe_has() -> None:
    latents = DataConfig("fashion-mnist")
    assert replace(stochastic(3), name="FPDM").recipe(FULL, 0, latents) == replace(FPDM, ablation=True).recipe(
        FULL, 0, latents
    )


def test_folders_are_names_that_every_file_system_takes() -> None:
    assert Training(EVERYWHERE, 2).folder == "FPDM-timestep-everywhere-2"
    assert Training(ablation("n = N, m up to M, N = 6"), 0).folder == "n-N-m-up-to-M-N-6-0"
    assert FPDM.macs(FULL) == FULL.macs > ablation("x").macs(FULL) == FULL.ablation_macs
