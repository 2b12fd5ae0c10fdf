"""`--init-from`: a run begins with another's weights, says so, and is resumed without them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.recipe import Recipe, differences
from fpdm.runs.run import load_run
from fpdm.runs.train_config import WarmStart
from fpdm.training.trainer import Trainer
from tests.training.small import SHAPE, data, recipe, saved

EMA = "checkpoints/step-{:09d}/ema/diffusion_pytorch_model.safetensors"


def of_dit(steps: int = 2) -> Recipe:
    return replace(recipe(steps=steps, checkpoint_every=0), model=as_dit(SHAPE, 4))


def begun_with(where: Path, **changes: object) -> Recipe:
    return replace(recipe(**changes), start=WarmStart(str(where)))


@pytest.fixture
def dit(tmp_path: Path) -> Path:
    Trainer(of_dit(), data(), tmp_path / "dit").train()
    return tmp_path / "dit"


def test_a_run_begins_with_averaged_weights_and_is_resumed_without_them(dit: Path, tmp_path: Path) -> None:
    wanted = begun_with(dit, steps=6)
    trainer = Trainer(wanted, data(), tmp_path / "a")
    source = load_run(dit).model.state_dict()
    for weights in (trainer.model.state_dict(), dict(zip(source, trainer.ema.shadow_params, strict=False))):
        assert torch.equal(weights["x_embedder.proj.weight"], source["x_embedder.proj.weight"])
    trainer.train()
    sha256 = hashlib.sha256((dit / EMA.format(2)).read_bytes()).hexdigest()
    written = Recipe.from_json((tmp_path / "a" / "recipe.json").read_text())
    assert written.start == WarmStart(str(dit), "mean", sha256)
    assert sha256[:12] in (tmp_path / "a" / "README.md").read_text()

    # Stopped halfway and resumed when the source is gone, by the same words: the same weights.
    Trainer(replace(wanted, train=replace(wanted.train, steps=3)), data(), tmp_path / "b").train()
    shutil.rmtree(dit)
    assert Trainer(wanted, data(), tmp_path / "b").train().step == 6
    assert saved(tmp_path / "a", 6).keys() == saved(tmp_path / "b", 6).keys()
    for name, value in saved(tmp_path / "a", 6).items():
        assert torch.equal(value, saved(tmp_path / "b", 6)[name]), name
    assert Recipe.from_json((tmp_path / "b" / "recipe.json").read_text()).start.init_sha256 == sha256
    with pytest.raises(ValueError, match=r"start.init_block: mean -> 1"):
        Trainer(replace(wanted, start=replace(wanted.start, init_block="1")), data(), tmp_path / "b").train()


def test_the_same_weights_in_another_place_are_known_and_others_refused(dit: Path, tmp_path: Path) -> None:
    wanted = begun_with(dit, steps=6)
    Trainer(wanted, data(), tmp_path / "a").train()
    Trainer(replace(wanted, train=replace(wanted.train, steps=3)), data(), tmp_path / "b").train()
    Trainer(of_dit(3), data(), tmp_path / "longer").train()
    there = dit.rename(tmp_path / "moved")
    for other, says in (
        (tmp_path / "longer", r"start.init_sha256: \w{12} -> \w{12}"),
        (tmp_path / "none", "expected a run, .* the run was started from .*dit"),
    ):
        with pytest.raises(ValueError, match=says):
            Trainer(begun_with(other, steps=6), data(), tmp_path / "b").train()
    with pytest.warns(RuntimeWarning, match=r"in another place: start.init_from: .*dit -> .*moved$"):
        assert Trainer(begun_with(there, steps=6), data(), tmp_path / "b").train().step == 6
    for name, value in saved(tmp_path / "a", 6).items():
        assert torch.equal(value, saved(tmp_path / "b", 6)[name]), name
    assert Recipe.read(tmp_path / "b" / "recipe.json").start.init_from == str(there)
    # What a run was started from may itself be trained for longer: the same words go on.
    Trainer(of_dit(4), data(), there).train()
    Trainer(begun_with(there, steps=7), data(), tmp_path / "b").train()
    with pytest.raises(ValueError, match=r"start.init_from: .*moved -> \)"):
        Trainer(recipe(steps=8), data(), tmp_path / "b").train()


def test_a_folder_of_the_hub(tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = DiffusionTransformer.from_shape(SHAPE)
    source.save_pretrained(tmp_path / "hub")
    trainer = Trainer(begun_with(tmp_path / "hub"), data(), tmp_path / "run")
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


def test_what_cannot_be_begun_with_leaves_nothing(dit: Path, tmp_path: Path) -> None:
    epsilon = Schedule(zero_terminal_snr=False, prediction="epsilon")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text(json.dumps({"_class_name": "DiTTransformer2DModel"}))
    (tmp_path / "foreign" / "diffusion_pytorch_model.safetensors").touch()
    for wrong, says in (
        (begun_with(tmp_path / "none"), "expected a run, or a folder with a config.json"),
        (
            begun_with(tmp_path / "foreign"),
            "foreign is a DiTTransformer2DModel; expected one of ours; convert it with fpdm import",
        ),
        (
            replace(begun_with(dit), start=WarmStart(str(dit), init_sha256="f" * 64)),
            "expected ffffffffffff, as the recipe says",
        ),
        (
            replace(begun_with(dit), schedule=epsilon),
            "predicts v; expected epsilon, as the recipe says; give --prediction v",
        ),
        (replace(begun_with(dit), model=replace(SHAPE, heads=4)), "heads is 2, here 4"),
    ):
        with pytest.raises(ValueError, match=says):
            Trainer(wrong, data(), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    for block in ("last", "-1", ""):
        with pytest.raises(ValueError, match="init_block is"):
            WarmStart(init_block=block)


def test_old_recipes_begin_afresh_and_eps_has_one_weighting() -> None:
    values = json.loads(recipe().to_json())
    del values["start"], values["schedule"]["prediction"], values["model"]["mlp_norm_eps"]
    assert Recipe.from_json(json.dumps(values)) == recipe()
    assert not differences(Recipe.from_json(json.dumps(values)), recipe())
    epsilon = Schedule(zero_terminal_snr=False, prediction="epsilon")
    assert Recipe.from_json(replace(recipe(), schedule=epsilon).to_json()).schedule == epsilon
    with pytest.raises(ValueError, match="'min_snr', which is for the loss on v"):
        replace(recipe(weighting="min_snr"), schedule=epsilon)


def test_a_run_that_predicts_eps(tmp_path: Path) -> None:
    epsilon = Schedule(zero_terminal_snr=False, prediction="epsilon")
    Trainer(replace(recipe(steps=2), schedule=epsilon), data(), tmp_path).train()
    assert load_run(tmp_path).recipe.schedule == epsilon
