"""The recipes: which network and training each name stands for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from fpdm.data.config import DataConfig
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import RECIPES, make_recipe


def any_recipe(name: str, model: str) -> Recipe:
    return make_recipe(name, model, data=DataConfig("photos") if name == "folder" else None)


def test_fpdm_and_dit_differ_in_the_model_only() -> None:
    for name in RECIPES:
        fpdm, dit = (json.loads(any_recipe(name, model).to_json()) for model in ("fpdm", "dit"))
        for training in (fpdm["train"], dit["train"]):  # the same compute, as steps or as MACs: the next test
            del training["steps"], training["macs"]
        assert {key for key in fpdm if fpdm[key] != dit[key]} == {"name", "model"}
        differing = {key for key in fpdm["model"] if fpdm["model"][key] != dit["model"][key]}
        assert differing == {"middle_kind", "middle_blocks", "timestep_everywhere"}


@pytest.mark.parametrize(("name", "steps"), [("imagenet-256", 400_000), ("ffhq-256", 100_000)])
def test_full_size_models_get_the_compute_of_so_many_steps_of_dit(name: str, steps: int) -> None:
    fpdm, dit = (any_recipe(name, model).train for model in ("fpdm", "dit"))
    assert (dit.steps, dit.macs, fpdm.steps) == (steps, 0, 0)
    tokens, width = 256, 1152
    block = tokens * (12 * width**2 + 2 * tokens * width) + 6 * width**2
    rest = 16 * width * tokens + 256 * width + width**2 + 2 * width**2 + 32 * width * tokens  # embeddings and head
    assert fpdm.macs == pytest.approx(3 * (28 * block + rest) * 512 * steps, rel=1e-3)
    # MATHS: 39.7 blocks a step against 84.
    cost = DiffusionTransformer.from_shape(any_recipe(name, "fpdm").model).cost()
    assert fpdm.macs / 512 / steps / cost.training_macs(12.5, 6) == pytest.approx(84 / 39.7, rel=0.02)


@pytest.mark.parametrize(
    ("model", "middle", "blocks", "repeats"),
    [
        ("fpdm", "fixed_point", 1, 1),
        ("fpdm-elastic", "fixed_point", 2, 1),
        ("dit", "stack", 26, 1),
        ("dit-4", "stack", 2, 1),
        ("shared-6", "stack", 1, 4),
        ("shared", "stack", 1, 26),
    ],
)
def test_models_by_name(model: str, middle: str, blocks: int, repeats: int) -> None:
    made = make_recipe("digits", model)
    assert made.name == f"{model}-digits"
    shape = asdict(made.model)
    assert [shape[name] for name in ("middle_kind", "middle_blocks", "repeats")] == [middle, blocks, repeats]


def test_fpdm_everywhere_is_an_fpdm_whose_outer_blocks_see_the_timestep() -> None:
    fpdm, everywhere = asdict(make_recipe("digits")), asdict(make_recipe("digits", "fpdm-everywhere"))
    assert (fpdm["model"].pop("timestep_everywhere"), everywhere["model"].pop("timestep_everywhere")) == (False, True)
    assert (fpdm.pop("name"), everywhere.pop("name")) == ("fpdm-digits", "fpdm-everywhere-digits")
    assert fpdm == everywhere


@pytest.mark.parametrize("name", ["imagenet-256", "celebahq-256", "ffhq-256", "lsun-church-256"])
def test_full_size_recipes_are_the_papers(name: str) -> None:
    """Sec. 4.1."""
    made = make_recipe(name, data=DataConfig("cache", size=64))
    assert (made.model.image_size, made.model.in_channels, made.model.patch_size, made.model.width) == (32, 4, 2, 1152)
    assert made.model.num_classes == (1000 if name == "imagenet-256" else 0)
    assert (made.train.batch_size, made.train.learning_rate, made.train.label_dropout) == (512, 1e-4, 0.1)
    assert (made.train.no_grad_iters, made.train.grad_iters) == (12, 12)
    assert (made.schedule.beta_start, made.schedule.beta_end, made.schedule.zero_terminal_snr) == (1e-4, 0.02, True)
    assert (made.data.source, made.data.size, made.data.crop, made.data.flip) == ("cache", 256, "adm", True)


def test_fields_of_the_training_may_be_changed() -> None:
    changed, plain = make_recipe("digits", steps=3, batch_size=7), make_recipe("digits")
    differing = {key for key, value in asdict(plain.train).items() if asdict(changed.train)[key] != value}
    assert (changed.train.steps, changed.train.batch_size, differing) == (3, 7, {"steps", "batch_size"})


@pytest.mark.parametrize(
    ("name", "model", "says"),
    [
        ("digitz", "fpdm", "there is no recipe 'digitz'; expected one of digits, .*; did you mean digits?"),
        ("zzz", "fpdm", "lsun-church-256$"),
        ("digits", "unet", "there is no model 'unet'; expected fpdm, "),
        ("digits", "dit-", "there is no model 'dit-'"),
        ("digits", "dit-1", "a DiT of 1 blocks is too shallow"),
    ],
)
def test_names_that_stand_for_nothing(name: str, model: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_recipe(name, model)


@pytest.mark.parametrize(
    ("size", "patch"), [(32, 4), (64, 8), (28, 4), (8, 1), (7, 1), (100, 10), (31, 1), (30, 3), (46, 2)]
)
def test_the_folder_recipe_fits_any_size_with_about_64_tokens_and_never_one(size: int, patch: int) -> None:
    found = make_recipe("folder", data=DataConfig("photos", size=size, channels=1))
    assert found.model.patch_size == patch
    assert (found.model.image_size, found.model.in_channels) == (size, 1)
    assert Path(found.data.source).is_absolute()


def test_the_folder_recipe_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="needs a folder"):
        make_recipe("folder")
    with pytest.raises(ValueError, match="needs a folder"):
        make_recipe("folder", data=DataConfig("digits"))
