"""Models by whatever names them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import CheckpointError
from fpdm.runs import pretrained
from fpdm.runs.pretrained import find_model, load_model, recipe_without_data
from fpdm.sampling.plan import Plan
from tests import pipelines


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pipelines.pixels().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def on_the_hub(folder: Path, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a folder where a download of this name would have put it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    there = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, there / "snapshots" / ("0" * 40))
    (there / "refs").mkdir()
    (there / "refs" / "main").write_text("0" * 40)


def test_a_folder_in_the_layout_of_the_hub_is_a_model(saved: Path) -> None:
    model = load_model(saved)
    assert model.recipe.name == "tiny"
    assert model.classes.names == ("cat, domestic cat", "dog", "5")
    assert model.image_shape == (1, 8, 8)
    expected = pipelines.network().state_dict()
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, expected[name])
    assert model.model.config["iterations"] == 4
    model.sampler(Plan(28, iterations=5))([0], [1])


def test_a_model_of_latents_takes_its_autoencoder_along(tmp_path: Path) -> None:
    pipelines.latents(tmp_path / "vae", pad=1).save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "vae")
    model = load_model(tmp_path / "saved")
    assert model.image_shape == (1, 6, 6)
    # It is the one that the index says, or none.
    weights = tmp_path / "saved" / "vae" / "config.json"
    weights.write_text(json.dumps({**json.loads(weights.read_text()), "scaling_factor": 0.7}))
    with pytest.raises(ValueError, match="has sha256"):
        _ = load_model(tmp_path / "saved").image_shape


def test_a_name_on_the_hub(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_hub(saved, tmp_path / "cache", "me/cats", monkeypatch)
    assert load_model("me/cats").recipe.name == "tiny"
    assert find_model("me/cats", revision="main").name == "0" * 40
    with pytest.raises(ValueError, match="me/dogs is not a file or folder, and the hub cannot provide it"):
        load_model("me/dogs")


def test_what_is_on_the_hub_and_not_ours_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline"}))
    on_the_hub(folder, tmp_path / "cache", "facebook/DiT", monkeypatch)
    with pytest.raises(ValueError, match=r"is a DiTPipeline; expected a FPDMPipeline \(fpdm import converts"):
        load_model("facebook/DiT")
    (folder / "model_index.json").unlink()
    (folder / "config.json").write_text("{}")
    on_the_hub(folder, tmp_path / "cache", "me/network", monkeypatch)
    with pytest.raises(ValueError, match=r"me/network has no model_index\.json"):
        load_model("me/network")


def test_a_shipped_model_goes_by_its_name_alone(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(saved, tmp_path / "shipped" / "cats-32")
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    assert load_model("cats-32").recipe.name == "tiny"
    with pytest.raises(ValueError, match=r"expected a folder .*, cats-32, or a name .*; did you mean cats-32\?"):
        load_model("cats-23")
    Path("cats-32").mkdir()  # a folder of the user's comes first
    with pytest.raises(ValueError, match="there is no run with a checkpoint in cats-32"):
        load_model("cats-32")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "there is no model ''"),
        ("nothing", "there is no model 'nothing'; expected a folder written by fpdm train or fpdm import"),
        ("a/b/c", "there is no model 'a/b/c'"),
        ("file", "file is a file; expected the folder of a run or of a model"),
        ("empty", "there is no run with a checkpoint in empty"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=says):
        load_model(name)


def test_damaged_weights_are_refused(saved: Path) -> None:
    path = saved / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises((CheckpointError, ValueError), match="damaged"):
        load_model(saved)


def test_a_model_without_data_has_the_recipe_of_its_shape() -> None:
    recipe = recipe_without_data("x", pipelines.SHAPE, Schedule(), AutoencoderConfig())
    assert (recipe.data.size, recipe.data.channels, recipe.data.conditional) == (8, 1, True)
    latent = replace(pipelines.SHAPE, in_channels=4, num_classes=0)
    recipe = recipe_without_data("x", latent, Schedule(), AutoencoderConfig("stabilityai/sd-vae-ft-ema"))
    assert (recipe.data.size, recipe.data.channels, recipe.data.conditional) == (64, 3, False)


def test_the_model_that_comes_with_the_package_draws_clothes() -> None:
    model = load_model("fpdm-fashion")
    card = (pretrained.SHIPPED / "fpdm-fashion" / "README.md").read_text(encoding="utf-8")
    assert f"{model.model.cost().total_parameters:,} parameters" in card
    assert model.image_shape == (1, 28, 28)
    assert model.autoencoder.sha256 == model.recipe.autoencoder.sha256
    drawn = model.sampler(Plan(140), seed=0)(range(20), [*range(10)] * 2).pixels  # (20, 1, 28, 28)
    corners, centre = drawn[..., :2, :2].float().mean(), drawn[..., 10:18, 10:18].float().mean()
    assert corners < 5 < 60 < centre  # clothes on black, and not noise
    trousers, bags = drawn[[1, 11]], drawn[[8, 18]]  # (2, 1, 28, 28) each
    wide = [(one[..., 14:20, :] > 60).float().mean() for one in (trousers, bags)]
    assert wide[0] < wide[1]  # the classes are the data set's
