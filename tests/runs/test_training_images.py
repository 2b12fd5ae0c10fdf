"""Images that have moved are read as they were for the training: in their size and colours, and with their crop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm import cli
from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.data.loading import load_dataset, load_folder
from fpdm.data.prepare import prepare
from fpdm.inspection import inspect as inspect_module
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import load_run
from fpdm.runs.training_images import training_images
from fpdm.training.trainer import Trainer
from fpdm.tune import tune as tune_module
from tests.autoencoders import tiny

PIXELS = make_recipe("digits", steps=1, batch_size=2, no_grad_iters=0, grad_iters=1, sample_every=0, tracker="none")
SIZE = 12  # no default of anything


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos whose crops differ, and runs on their pixels and on their latents."""
    root = tmp_path_factory.mktemp("cropped")
    (root / "photos").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60), dtype=np.uint8)  # (H, W)
        Image.fromarray(pixels).save(root / "photos" / f"{number}.png")
    tiny(root / "autoencoder", sample_size=SIZE)
    autoencoder = AutoencoderConfig(str(root / "autoencoder")).load()
    assert isinstance(autoencoder, VAE)
    photos = DataConfig(str(root / "photos"), size=SIZE, channels=1, crop="adm", conditional=False)
    prepare(photos, autoencoder, root / "cache")
    for name, data in (("pixels", photos), ("latents", DataConfig(str(root / "cache"), conditional=False))):
        dataset = load_dataset(data)
        channels, size, _ = dataset.splits.train.shape
        shape = replace(PIXELS.model, image_size=size, in_channels=channels, num_classes=0, patch_size=2)
        recipe = replace(PIXELS, name=name, data=data, model=shape).fitted(dataset.splits.train, dataset.sha256)
        Trainer(recipe, dataset.splits.train, root / name).train()
    (root / "photos").rename(root / "moved")
    return root


@pytest.mark.parametrize("name", ["pixels", "latents"])
def test_images_that_have_moved_are_cropped_as_before(root: Path, name: str) -> None:
    found = training_images(load_run(root / name), str(root / "moved"))
    assert found == DataConfig(str(root / "moved"), size=SIZE, channels=1, crop="adm", conditional=False)
    assert training_images(load_run(root / name)) == replace(found, source=str(root / "photos"))


def test_without_a_record_they_have_the_shape_of_what_the_model_makes(root: Path) -> None:
    run = load_run(root / "latents")
    gone = replace(run.recipe.data, source=str(root / "gone"), crop="adm")
    for data in (gone, replace(run.recipe.data, source=UNKNOWN)):
        found = training_images(replace(run, recipe=replace(run.recipe, data=data)), "photos")
        assert found == replace(data, source="photos", size=SIZE, channels=1)


class _Seen(Exception):
    """What a command would measure against."""


@pytest.mark.parametrize("name", ["pixels", "latents"])
@pytest.mark.parametrize(
    ("module", "words"),
    [(inspect_module, ["inspect", "--out", "OUT"]), (tune_module, ["tune", "--budget", "20"])],
)
def test_commands_that_are_told_where_they_are_take_the_same_images(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: object, words: list[str]
) -> None:
    loaded = module.load_images  # type: ignore[attr-defined]

    def seen(*given: object, **options: object) -> None:
        raise _Seen(loaded(*given, **options).splits)

    monkeypatch.setattr(module, "load_images", seen)
    command, *rest = [str(tmp_path) if word == "OUT" else word for word in words]
    with pytest.raises(_Seen) as found:
        cli.main([command, str(root / name), "--data", str(root / "moved"), *rest, "--debug"])
    splits = found.value.args[0]
    expected, other = (
        load_folder(root / "moved", SIZE, channels=1, crop=crop).data.images for crop in ("adm", "lanczos")
    )
    images = torch.cat([splits.train.images, splits.validation.images, splits.test.images])  # (N, 1, H, W)
    as_set = [{hash(image.numpy().tobytes()) for image in one} for one in (images, expected, other)]
    assert as_set[0] == as_set[1]
    assert not as_set[0] & as_set[2]
