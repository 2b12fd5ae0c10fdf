"""Caches of latents: what is in them, what does not change them, and what they refuse."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.cli import main
from fpdm.data import prepare as prepare_module
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.images import to_float
from fpdm.data.latents import LatentSet, open_cache
from fpdm.data.loading import load_dataset, load_images
from fpdm.data.manifest import check_expected, read_manifest
from fpdm.data.prepare import Prepared, prepare
from fpdm.data.sources.named import load
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import Interrupted
from fpdm.files import lock, sha256_of
from fpdm.randomness import Stream, generator
from fpdm.training.batch import Batch, make_batch
from fpdm.training.trainer import Trainer
from tests.autoencoders import tiny
from tests.training.small import recipe, saved

SMALL = CacheSettings(shard_size=5, holdout=0)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> VAE:
    folder = tmp_path_factory.mktemp("autoencoder")
    tiny(folder, channels=3, scaling_factor=1.0)
    found = AutoencoderConfig(str(folder)).load()
    assert isinstance(found, VAE)
    return found


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 images of two classes, one of them broken."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(1)
    for i in range(13):
        path = root / ("ant", "bee")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(path)
    (root / "bee" / "broken.png").write_text("no image")
    return root


def made(photographs: Path, vae: VAE, out: Path, settings: CacheSettings = SMALL, **options: object) -> Prepared:
    found = prepare(DataConfig(str(photographs), size=8), vae, out, settings, batch_size=2, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def content(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir() if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def cache(photographs: Path, vae: VAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that no test may change."""
    out = tmp_path_factory.mktemp("caches") / "cache"
    made(photographs, vae, out, dataclasses.replace(SMALL, flip=True, dtype="float32"))
    return out


def moved(cache: Path, to: Path) -> Path:
    to.mkdir()
    for name, value in content(cache).items():
        (to / name).write_bytes(value)
    return to


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


def test_what_is_skipped_is_listed_and_strict_is_strict(
    photographs: Path, vae: VAE, cache: Path, tmp_path: Path
) -> None:
    assert read_manifest(cache).skipped == 1
    assert (cache / "skipped.txt").read_text() == "bee/broken.png\tnot an image in a format that can be read\n"
    with pytest.raises(ValueError, match=r"broken\.png: not an image"):
        made(photographs, vae, tmp_path / "strict", strict=True)
    settings = dataclasses.replace(SMALL, flip=True, dtype="float32")
    with pytest.raises(ValueError, match=r"broken\.png: not an image"):  # in a finished one too
        made(photographs, vae, cache, settings, strict=True)


def test_held_out_images_are_not_trained_on(photographs: Path, vae: VAE, cache: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, holdout=4, flip=True, dtype="float32")
    made(photographs, vae, tmp_path / "a", settings)
    splits = load_dataset(DataConfig(str(tmp_path / "a"))).splits
    parts = [part.batch(range(len(part)))[0] for part in (splits.train, splits.validation)]
    whole, _ = load_dataset(DataConfig(str(cache))).splits.train.batch(range(13))
    assert len(parts[0]) + len(parts[1]) == 13
    assert len(parts[1]) in (3, 4)  # one of them may be the broken one
    together = torch.cat(parts).flatten(1)
    nearest = torch.cdist(whole.flatten(1), together).min(1)
    assert nearest.values.max() < 1e-4
    assert len({*nearest.indices.tolist()}) == 13
    assert len(splits.test) == 0


def test_a_class_without_a_usable_image_is_none(vae: VAE, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "images" / name).mkdir(parents=True)
        if name == "b":
            (tmp_path / "images" / name / "1.png").write_text("broken")
        else:
            pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / "1.png")
    made(tmp_path / "images", vae, tmp_path / "cache")
    found = load_dataset(DataConfig(str(tmp_path / "cache")))
    assert found.classes == ("a", "c")
    assert found.splits.train.labels.tolist() == [0, 1]


# What does not change them


def test_killed_and_called_again_gives_the_same_bytes(
    photographs: Path, vae: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(photographs, vae, tmp_path / "whole")
    out = tmp_path / "killed"
    written: list[str] = []

    def dying(path: Path, value: str | bytes, write: Callable[..., None] = prepare_module.write_atomically) -> None:
        written.append(path.name)
        if path.name == "train-00001.json":  # the shard is there, its record is not
            raise MemoryError
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_atomically", dying)
        with pytest.raises(MemoryError):
            made(photographs, vae, out)
    (out / ("." + "0" * 32)).write_bytes(b"half")
    with pytest.raises(ValueError, match="no finished cache"):
        open_cache(out)
    first = (out / "train-00000.safetensors").stat().st_mtime_ns
    again = made(photographs, vae, out)
    assert again.encoded == 13 - 5
    assert (out / "train-00000.safetensors").stat().st_mtime_ns == first
    assert content(out) == content(tmp_path / "whole")
    assert not (out / ("." + "0" * 32)).exists()
    assert made(photographs, vae, out).encoded == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)], ids=lambda one: str(one)
)
def test_a_signal_ends_it_with_a_word(
    number: signal.Signals, code: int, photographs: Path, vae: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = vae.encode, itertools.count()

    def signalled(images: torch.Tensor) -> object:
        if next(calls) == 4:  # in the second shard
            os.kill(os.getpid(), number)
        return encode(images)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(vae, "encode", signalled)
        # Should it not be heard, the test shall fail and not end all tests.
        signal.signal(number, lambda *_: None)
        try:
            with pytest.raises(Interrupted, match=f"stopped by {number.name}; .* the same command resumes") as found:
                made(photographs, vae, tmp_path / "cache")
        finally:
            signal.signal(number, before)
    assert found.value.exit_code == code
    assert made(photographs, vae, tmp_path / "cache").encoded == 13 - 5


def test_other_processes_wait_for_the_plan(
    photographs: Path, vae: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    state = SimpleNamespace(
        process_index=1, num_processes=2, is_main_process=False, wait_for_everyone=lambda: done.append("met")
    )
    monkeypatch.setattr(prepare_module, "processes", lambda **_: state)
    monkeypatch.setattr(prepare_module, "gather", lambda values: torch.tensor([values]))
    monkeypatch.setattr(prepare_module, "_check_same", lambda *_: done.append("looked"))
    (tmp_path / "cache").mkdir()
    assert prepare(DataConfig(str(photographs), size=8), vae, tmp_path / "cache", SMALL) is None
    assert done == ["met", "looked"]


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    made(photographs, vae, tmp_path / "one")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "fpdm"]
    words = ["prepare", str(photographs), "--autoencoder", vae.config.source, "--out", str(tmp_path / "two")]
    words += [
        "--size",
        "8",
        "--crop",
        "lanczos",
        "--shard-size",
        "5",
        "--holdout",
        "0",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        "--json",
    ]
    done = subprocess.run([*launcher, *words], check=True, timeout=300, capture_output=True, text=True)
    printed = json.loads(done.stdout)
    assert (printed["images"], printed["encoded"]) == (13, 13)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one == two


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


def damage(kind: str, cache: Path) -> None:
    path = cache / "train-00001.safetensors"
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif kind == "flipped":
        value = bytearray(path.read_bytes())
        value[-9] ^= 1
        path.write_bytes(value)
    else:
        tensors = safetensors.numpy.load_file(path)
        if kind == "shape":
            tensors["moments"] = tensors["moments"][..., :2].copy()
        elif kind == "label":
            tensors["labels"][2] = 7
        else:
            tensors["moments"][1, 0, 0, 0, 0, 0] = np.nan
        safetensors.numpy.save_file(tensors, path)
        values = json.loads((cache / "cache.json").read_text())
        shard = values["splits"]["train"][1]
        shard["bytes"], shard["sha256"] = path.stat().st_size, sha256_of(path)
        (cache / "cache.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"train-00001.safetensors is damaged: No such file"),
        ("truncated", r"train-00001.safetensors is damaged: \d+ bytes, not \d+"),
        ("flipped", r"train-00001.safetensors is damaged: its sha256 is"),
        ("shape", r"train-00001.safetensors is damaged: float32 \(5, 2, 2, 4, 4, 2\)"),
        ("label", r"train-00001.safetensors is damaged: the label 7, which is out of range"),
        ("nan", r"latent 6 of 'photographs0' is not finite"),
    ],
)
def test_a_damaged_shard_is_refused(kind: str, message: str, cache: Path, tmp_path: Path) -> None:
    broken = moved(cache, tmp_path / "broken")
    damage(kind, broken)
    with pytest.raises(ValueError, match=message):
        load_dataset(DataConfig(str(broken))).splits.train.batch([5, 6])


def test_a_damaged_shard_is_mended(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    made(photographs, vae, tmp_path / "cache")
    before = content(tmp_path / "cache")
    damage("flipped", tmp_path / "cache")
    assert made(photographs, vae, tmp_path / "cache").encoded == 5
    assert content(tmp_path / "cache") == before
    manifest = before["cache.json"].replace(b'"bee"', b'"bef"')
    assert manifest != before["cache.json"]
    (tmp_path / "cache" / "cache.json").write_bytes(manifest)
    assert made(photographs, vae, tmp_path / "cache").encoded == 0
    assert content(tmp_path / "cache") == before


def test_a_newer_cache_is_not_called_damaged(cache: Path, tmp_path: Path) -> None:
    newer = moved(cache, tmp_path / "newer")
    text = (newer / "cache.json").read_text()
    (newer / "cache.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match=r"has format 2, newer than 1; use the fpdm that made it, or a newer one$"):
        read_manifest(newer)


def test_labels_too_large_for_classes_are_skipped(vae: VAE, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    with tarfile.open(tmp_path / "tars" / "0.tar", "w") as archive:
        for i, label in enumerate((1, 2**20, 3 * 10**9, 2**62, 10**19, -1)):
            for name, value in ((f"{i}.png", image.getvalue()), (f"{i}.cls", str(label).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(value)
                archive.addfile(info, io.BytesIO(value))
    found = made(tmp_path / "tars", vae, tmp_path / "cache")
    assert (found.manifest.images, found.manifest.skipped, found.manifest.labels) == (1, 5, (0, 1))
    assert "its label 1048576 is out of range; expected 0 to 1048575" in (tmp_path / "cache/skipped.txt").read_text()


def test_another_plan_is_refused_with_the_difference(photographs: Path, vae: VAE, cache: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, flip=True, dtype="float32")
    with pytest.raises(ValueError, match=r"settings\.shard_size: 5 -> 6"):
        made(photographs, vae, cache, dataclasses.replace(settings, shard_size=6))
    with pytest.raises(ValueError, match=r"data.size: 8 -> 10; image_shape.*; shape"):
        prepare(DataConfig(str(photographs), size=10), vae, cache, settings)
    tiny(tmp_path / "other", channels=3, scaling_factor=2.0)
    other = AutoencoderConfig(str(tmp_path / "other")).load()
    assert isinstance(other, VAE)
    with pytest.raises(ValueError, match=f"autoencoder.sha256: {vae.sha256} -> {other.sha256}"):
        made(photographs, other, cache, settings)
    more = tmp_path / "more"
    for path in photographs.rglob("*.png"):
        (more / path.parent.name).mkdir(parents=True, exist_ok=True)
        (more / path.parent.name / path.name).write_bytes(path.read_bytes())
    before = content(cache)
    assert made(more, vae, cache, settings).encoded == 0  # the same images, elsewhere
    assert content(cache) == before
    Image.new("RGB", (8, 8)).save(more / "ant" / "new.png")
    with pytest.raises(ValueError, match="images: 14 -> 15; listing: "):
        made(more, vae, cache, settings)
    (more / "ant" / "new.png").rename(more / "bee" / "broken.png")
    with pytest.raises(ValueError, match="images: 14 -> others; listing: "):
        made(more, vae, cache, settings)


def test_a_recipe_for_other_latents_is_refused_with_the_difference(cache: Path) -> None:
    found = read_manifest(cache)
    config = dataclasses.replace(found.data, source=str(cache))
    check_expected(config, found.autoencoder)
    with pytest.raises(ValueError, match="size: 16 -> 8; crop: adm -> lanczos"):
        check_expected(dataclasses.replace(config, size=16, crop="adm"), AutoencoderConfig())
    with pytest.raises(ValueError, match=f"autoencoder's sha256: {'0' * 12} -> {found.autoencoder.sha256[:12]}"):
        check_expected(config, AutoencoderConfig("elsewhere", "0" * 64))
    with pytest.warns(RuntimeWarning, match="expects latents of elsewhere"):
        check_expected(config, AutoencoderConfig("elsewhere"))


def test_mirroring_needs_the_mirrored_latents(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    made(photographs, vae, tmp_path / "cache")
    with pytest.raises(ValueError, match="--flip"):
        load_dataset(DataConfig(str(tmp_path / "cache"), flip=True))


def test_a_wrong_scaling_factor_is_told(photographs: Path, tmp_path: Path) -> None:
    tiny(tmp_path / "vae", channels=3, scaling_factor=0.1)
    vae = AutoencoderConfig(str(tmp_path / "vae")).load()
    assert isinstance(vae, VAE)
    with pytest.warns(RuntimeWarning, match=r"standard deviation is 0\.10"):
        made(photographs, vae, tmp_path / "cache")


def test_two_writers_are_told_apart(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    with lock(tmp_path / "cache"), pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
        made(photographs, vae, tmp_path / "cache")


def test_a_folder_of_other_files_is_left_alone(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(notes\.txt\)"):
        made(photographs, vae, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "abacus"], "device abacus cannot be used"),
        (["--device", "cuda:4096"], "device cuda:4096 cannot be used"),
        (["--device", "meta"], "device meta cannot be used"),
        (["--size", "64"], "--size and --crop are for image files; the images of digits"),
    ],
)
def test_options_that_cannot_be_met_are_the_users_mistake(
    words: list[str], message: str, vae: VAE, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cache"
    code = main(["prepare", "digits", "--autoencoder", vae.config.source, "--out", str(out), *words])
    printed = capsys.readouterr().err
    assert (code, printed.count("\n")) == (2, 1)
    assert message in printed
    assert not out.exists()


def test_an_autoencoder_that_is_none_is_the_users_mistake(tmp_path: Path) -> None:
    tiny(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "norm_num_groups": 0}))
    with pytest.raises(ValueError, match="no autoencoder can be loaded"):
        AutoencoderConfig(str(tmp_path)).load()


def test_latents_that_are_not_finite_are_skipped(
    photographs: Path, vae: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = vae.encode

    def overflowing(images: torch.Tensor) -> object:
        found = encode(images)
        return found._replace(mean=found.mean * torch.where(images[:, :1, :1, :1] > 0.0, 1e6, 1.0))

    monkeypatch.setattr(vae, "encode", overflowing)
    found = made(photographs, vae, tmp_path / "cache")
    assert found.manifest.skipped > 1
    assert "its latent is not finite" in (tmp_path / "cache" / "skipped.txt").read_text()
    assert found.manifest.images == 14 - found.manifest.skipped
    assert found.manifest.std < 10
