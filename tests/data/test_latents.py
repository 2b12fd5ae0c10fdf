"""Caches of latents: what is in them, what does not change them, and what they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.data.config import DataConfig
from fpdm.data.images import to_float
from fpdm.data.latents import LatentSet
from fpdm.data.loading import load_dataset, load_images
from fpdm.data.manifest import read_manifest
from fpdm.data.prepare import prepare
from fpdm.data.sources.named import load
from fpdm.diffusion.schedule import Schedule
from fpdm.randomness import Stream, generator
from fpdm.training.batch import Batch, make_batch
from fpdm.training.trainer import Trainer
from tests.autoencoders import tiny
from tests.data.caches import damage, made, moved
from tests.training.small import recipe, saved

# What is in them


def test_latents_are_those_of_the_decoded_images(photographs: Path, vae: VAE, cache: Path) -> None:
    from fpdm.data.loading import load_folder

    images = load_folder(photographs, 8).data
    latents = load_dataset(DataConfig(str(cache))).splits.train
    assert isinstance(latents, LatentSet)
    assert latents.shape == (4, 4, 4)
    assert torch.equal(latents.labels, images.labels)
    assert latents.num_classes == 2
    order = [12, 0, 7, 5, 4]  # across shards
    pixels, labels = images.batch(order)
    x0, y = latents.batch(order)
    torch.testing.assert_close(x0, vae.encode(pixels).mean, rtol=1e-5, atol=1e-5)
    assert torch.equal(y, labels)
    # Without spread, a drawn latent is the mean, of the image or of its mirror image.
    without = tuple(shard * np.array([1, 0], np.float32)[:, None, None, None] for shard in latents.shards)
    drawn, _ = dataclasses.replace(latents, shards=without).batch(order, draws(5), flip=True)
    turned = [one.random() < 0.5 for one in draws(5)]
    assert {*turned} == {False, True}
    mirrored = vae.encode(pixels.flip(-1)).mean
    for i, turn in enumerate(turned):
        torch.testing.assert_close(drawn[i], mirrored[i] if turn else x0[i], rtol=1e-5, atol=1e-5)


def draws(count: int) -> list[np.random.Generator]:
    return [generator(4, Stream.TRAIN, i) for i in range(count)]


def test_drawn_latents_have_the_mean_and_the_spread_of_their_image(photographs: Path, vae: VAE, cache: Path) -> None:
    latents, n = load_dataset(DataConfig(str(cache))).splits.train, 4000
    x0, _ = latents.batch([3] * n, draws(n))  # (n, c, h, w)
    from fpdm.data.loading import load_folder

    wanted = vae.encode(load_folder(photographs, 8).data.batch([3])[0])
    assert (x0.mean(0) - wanted.mean[0]).abs().div(wanted.std[0]).max() < 5 / n**0.5
    assert (x0.std(0) / wanted.std[0] - 1).abs().max() < 5 / (2 * n) ** 0.5


def test_float16_is_within_its_rounding(photographs: Path, vae: VAE, cache: Path, tmp_path: Path) -> None:
    made(photographs, vae, tmp_path / "half")
    half, full = (
        load_dataset(DataConfig(str(one))).splits.train.batch(range(13))[0] for one in (tmp_path / "half", cache)
    )
    assert not torch.equal(half, full)
    assert ((half - full).abs() <= full.abs() * 2**-11 + 2**-24).all()


def test_named_data_keep_their_splits_and_real_images_are_found_again(tmp_path: Path) -> None:
    tiny(tmp_path / "grey", scaling_factor=1.0)
    vae = AutoencoderConfig(str(tmp_path / "grey"), pad=2).load()
    assert isinstance(vae, VAE)
    prepare(DataConfig("digits"), vae, tmp_path / "cache", batch_size=512)
    found, real = load_dataset(DataConfig(str(tmp_path / "cache"))), load_images(DataConfig(str(tmp_path / "cache")))
    for split in ("train", "validation", "test"):
        latents, images = getattr(found.splits, split), load("digits", split)
        assert torch.equal(latents.labels, images.labels)
        assert latents.shape == (4, 6, 6)
        assert torch.equal(getattr(real.splits, split).images, images.images)
    x0, _ = found.splits.test.batch([5])
    torch.testing.assert_close(x0, vae.encode(load("digits", "test").batch([5])[0]).mean, rtol=1e-3, atol=1e-3)
    manifest = read_manifest(tmp_path / "cache")
    posterior = vae.encode(to_float(load("digits", "train").images))
    sampled = posterior.mean + posterior.std * torch.randn(
        posterior.mean.shape, generator=torch.Generator().manual_seed(0)
    )
    assert manifest.mean == pytest.approx(sampled.mean().item(), abs=2e-3)
    assert manifest.std == pytest.approx(sampled.std().item(), rel=5e-3)


# What does not change them


def test_batches_do_not_depend_on_how_they_are_cut(cache: Path) -> None:
    latents = load_dataset(DataConfig(str(cache))).splits.train

    def batch(first: int, count: int) -> Batch:
        return make_batch(
            latents,
            seed=3,
            first=first,
            count=count,
            schedule=Schedule(),
            num_classes=2,
            label_dropout=0.3,
            flip=True,
        )

    whole, parts = batch(10, 24), [batch(10 + first, 3) for first in range(0, 24, 3)]
    for field, together in zip(Batch._fields, whole, strict=True):
        assert torch.equal(torch.cat([getattr(part, field) for part in parts]), together), field


def test_a_run_on_latents_resumes_bit_exactly(cache: Path, tmp_path: Path) -> None:
    dataset = load_dataset(DataConfig(str(cache)))
    base = dataclasses.replace(recipe(), data=DataConfig(str(cache), flip=True))
    fitted = base.fitted(dataset.splits.train)
    assert fitted.model.in_channels == 4
    assert fitted.autoencoder == read_manifest(cache).autoencoder
    for out, stops in (("one", [6]), ("two", [3, 6])):
        for steps in stops:
            run = dataclasses.replace(fitted, train=dataclasses.replace(fitted.train, steps=steps))
            Trainer(run, dataset.splits.train, tmp_path / out, validation=dataset.splits.validation).train()
    one, two = saved(tmp_path / "one", 6), saved(tmp_path / "two", 6)
    assert one
    assert all(torch.equal(two[name], value) for name, value in one.items())


# What they refuse


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"train-00001.safetensors is damaged: No such file"),
        ("truncated", r"train-00001.safetensors is damaged: \d+ bytes, not \d+"),
        ("flipped", r"train-00001.safetensors is damaged: its sha256 is"),
        ("shape", r"train-00001.safetensors is damaged: float32 \(5, 2, 2, 4, 4, 2\)"),
        ("label", r"train-00001.safetensors is damaged: the label 7, which is out of range"),
        ("nan", r"latent 6 of 'photographs' is not finite"),
    ],
)
def test_a_damaged_shard_is_refused(kind: str, message: str, cache: Path, tmp_path: Path) -> None:
    broken = moved(cache, tmp_path / "broken")
    damage(kind, broken)
    with pytest.raises(ValueError, match=message):
        load_dataset(DataConfig(str(broken))).splits.train.batch([5, 6])


def test_mirroring_needs_the_mirrored_latents(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    made(photographs, vae, tmp_path / "cache")
    with pytest.raises(ValueError, match="--flip"):
        load_dataset(DataConfig(str(tmp_path / "cache"), flip=True))
