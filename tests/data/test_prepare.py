"""Preparing a cache: what is left out of it, and that interruptions, processes and damage change nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.compare.inputs import check_images
from fpdm.data import prepare as prepare_module
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.latents import open_cache
from fpdm.data.loading import load_dataset, load_images
from fpdm.data.manifest import read_manifest
from fpdm.data.prepare import ShardRecord, prepare
from fpdm.data.splits import SPLITS
from fpdm.errors import Interrupted
from fpdm.files import lock
from tests.autoencoders import tiny
from tests.data.caches import SMALL, content, damage, made, moved

FULL = CacheSettings(shard_size=4, dtype="float32")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 12 files, two of which are broken, and a class without a usable image."""
    rng = np.random.default_rng(3)
    for name in ("ant", "bee", "cow"):
        for i in range(12):
            path = tmp_path / "photos" / name / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    for name in ("ant/03.png", "cow/07.png", "ape/00.png"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_text("broken")
    return tmp_path / "photos"


def cached(photos: Path, vae: VAE, out: Path, settings: CacheSettings = FULL) -> DataConfig:
    prepare(DataConfig(str(photos), size=8), vae, out, settings)
    return DataConfig(str(out))


def test_a_folder_is_split_in_the_cache_as_in_memory(photos: Path, vae: VAE, tmp_path: Path) -> None:
    config = cached(photos, vae, tmp_path / "cache")
    latents, images = load_dataset(config), load_images(DataConfig(str(photos), size=8))
    assert latents.classes == images.classes == ("ant", "bee", "cow")
    for split in SPLITS:
        found, real = getattr(latents.splits, split), getattr(images.splits, split)
        assert torch.equal(found.labels, real.labels)
        everything = range(len(real))
        x0, _ = found.batch(everything)
        torch.testing.assert_close(x0, vae.encode(real.batch(everything)[0]).mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("large", [0, 9])
def test_images_of_tiny_classes_are_judged_by_none_that_was_trained_on(large: int, vae: VAE, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for i in range(12 + large):
        path = tmp_path / "photos" / f"class {min(i, 12)}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    data = DataConfig(str(tmp_path / "photos"), size=8, conditional=False)
    config = replace(cached(tmp_path / "photos", vae, tmp_path / "cache"), conditional=False)
    assert read_manifest(config.source).has_usual_splits
    latents, images = load_dataset(config).splits, load_images(data).splits
    for split in SPLITS:
        found, real = getattr(latents, split), getattr(images, split)
        x0, _ = found.batch(range(len(found)))
        torch.testing.assert_close(x0, vae.encode(real.batch(range(len(real)))[0]).mean, rtol=1e-4, atol=1e-5)
    parts = [{image.numpy().tobytes() for image in getattr(images, split).images} for split in SPLITS]
    assert [len(part) > 0 for part in parts] == [True] * 3
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12 + large


def test_a_broken_file_moves_no_other_file_to_another_split(photos: Path) -> None:
    def content(split: str) -> set[bytes]:
        return {image.numpy().tobytes() for image in getattr(load_images(config).splits, split).images}

    config = DataConfig(str(photos), size=8)
    before = {split: content(split) for split in SPLITS}
    (photos / "bee" / "05.png").write_text("broken too")
    after = {split: content(split) for split in SPLITS}
    assert all(after[split] <= before[split] for split in SPLITS)
    assert sum(map(len, after.values())) == sum(map(len, before.values())) - 1


def test_holdout_replaces_the_folders_own_splits(photos: Path, vae: VAE, tmp_path: Path) -> None:
    for holdout, sizes in ((0, (34, 0, 0)), (5, (None, None, 0))):
        splits = load_dataset(cached(photos, vae, tmp_path / f"{holdout}", replace(FULL, holdout=holdout))).splits
        found = len(splits.train), len(splits.validation), len(splits.test)
        assert sum(found) == 34
        assert all(wanted in (None, size) for wanted, size in zip(sizes, found, strict=True))
    assert len(splits.validation) in (3, 4, 5)  # some of them may be broken


def test_a_named_cache_is_described_as_before(tmp_path: Path) -> None:
    """Its manifest, by whose hash runs know it, has no trace of the choice that only a folder has."""
    tiny(tmp_path / "grey", scaling_factor=1.0)
    vae = AutoencoderConfig(str(tmp_path / "grey"), pad=2).load()
    assert isinstance(vae, VAE)
    prepare(DataConfig("digits"), vae, tmp_path / "cache", batch_size=512)
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["settings"]["holdout"] == 0


def test_a_cache_from_before_is_resumed_with_holdout_0(photos: Path, vae: VAE, tmp_path: Path) -> None:
    cached(photos, vae, tmp_path / "cache", replace(FULL, holdout=0))
    with pytest.raises(ValueError, match=r"settings\.holdout: 0 -> None\); .* with --holdout 0$"):
        cached(photos, vae, tmp_path / "cache")


def test_strict_means_the_same_for_every_reader(photos: Path, vae: VAE, tmp_path: Path) -> None:
    for name in ("ant/03.png", "cow/07.png", "ape/00.png"):
        (photos / name).unlink()
    config = DataConfig(str(photos), size=8)
    for read in (
        lambda: load_images(config, strict=True),
        lambda: prepare(config, vae, tmp_path / "cache", FULL, strict=True),
    ):
        with pytest.raises(ValueError, match=r"the class folder .*ape has no image"):
            read()


def test_compare_measures_against_images_that_were_held_out(
    photos: Path, vae: VAE, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    def check(config: DataConfig, images: DataConfig) -> None:
        run = SimpleNamespace(recipe=SimpleNamespace(data=config))
        check_images(SimpleNamespace(run=run, folder=tmp_path), images, load_images(images))  # type: ignore[arg-type]

    old, new = (
        cached(photos, vae, tmp_path / name, settings)
        for name, settings in (("old", replace(FULL, holdout=0)), ("new", FULL))
    )
    recwarn.clear()
    images = read_manifest(new.source).data
    check(new, images)
    moved = shutil.copytree(photos, tmp_path / "elsewhere" / "moved")
    check(new, replace(images, source=str(moved)))
    assert not recwarn.list
    with pytest.warns(RuntimeWarning, match="trained on the latents of all images"):
        check(old, images)
    shutil.copy(photos / "ant" / "00.png", photos / "ant" / "12.png")
    with pytest.raises(ValueError, match="trained on latents of other images"):
        check(new, images)


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


def test_killed_and_called_again_gives_the_same_bytes(
    photographs: Path, vae: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(photographs, vae, tmp_path / "whole")
    out = tmp_path / "killed"
    written: list[str] = []

    def dying(path: Path, value: Any, write: Callable[..., None] = prepare_module.write_json) -> None:
        written.append(path.name)
        if path.name == "train-00001.json":  # the shard is there, its record is not
            raise MemoryError
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_json", dying)
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
    assert (found.manifest.images, found.manifest.skipped) == (4, 2)
    assert found.manifest.labels == (1, 2**20, 3 * 10**9, 2**62)
    assert found.manifest.classes == ("1", "1048576", "3000000000", "4611686018427387904")
    assert "without a class" in (tmp_path / "cache/skipped.txt").read_text()


def test_no_byte_of_a_shards_record_changes_unnoticed(photographs: Path, vae: VAE, cache: Path, tmp_path: Path) -> None:
    found = moved(cache, tmp_path / "cache")
    before, record = content(found), found / "train-00001.json"
    whole, read = record.read_bytes(), ShardRecord.read(record)
    assert read is not None
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        record.write_bytes(changed)
        assert ShardRecord.read(record, verify=False) in (None, read), place
    made(photographs, vae, found, dataclasses.replace(SMALL, flip=True, dtype="float32"))
    assert content(found) == before
    # Those of earlier versions had no hash of themselves.
    record.write_text(json.dumps({key: value for key, value in json.loads(whole).items() if key != "sha256"}))
    assert ShardRecord.read(record) == read


def test_the_manifest_of_an_earlier_version_stays_as_it_is(tmp_path: Path) -> None:
    """Runs that are not finished know their latents by its hash."""
    tiny(tmp_path / "grey", scaling_factor=1.0)
    grey = AutoencoderConfig(str(tmp_path / "grey"), pad=2).load()
    assert isinstance(grey, VAE)
    manifest = tmp_path / "cache" / "cache.json"
    prepare(DataConfig("digits"), grey, tmp_path / "cache", batch_size=512)
    values = json.loads(manifest.read_text())
    before = json.dumps({key: value for key, value in values.items() if key not in ("sha256", "numbered")}, indent=1)
    manifest.write_text(before)
    found = prepare(DataConfig("digits"), grey, tmp_path / "cache", batch_size=512)
    assert (found.encoded, manifest.read_text()) == (0, before)
    assert found.manifest.sha256 == hashlib.sha256(before.encode()).hexdigest()
    manifest.write_text(before.replace('"skipped": 0', '"skipped": 1'))
    assert prepare(DataConfig("digits"), grey, tmp_path / "cache", batch_size=512).manifest.skipped == 0


def test_libraries_that_change_do_not_change_a_finished_cache(
    photographs: Path, vae: VAE, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SMALL, flip=True, dtype="float32")
    found = moved(cache, tmp_path / "cache")
    before = content(found)
    monkeypatch.setattr("fpdm.data.prepare.version", lambda name: "0.1")
    assert made(photographs, vae, found, settings).encoded == 0
    assert content(found) == before
    (found / "cache.json").unlink()
    with pytest.raises(ValueError, match=r"holds another cache.*versions.*-> 0\.1"):
        made(photographs, vae, found, settings)


def test_another_plan_is_refused_with_the_difference(photographs: Path, vae: VAE, cache: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, flip=True, dtype="float32")
    with pytest.raises(ValueError, match=r"settings\.shard_size: 5 -> 6"):
        made(photographs, vae, cache, dataclasses.replace(settings, shard_size=6))
    with pytest.raises(ValueError, match=r"data.size: 8 -> 10; image_shape.*; shape"):
        prepare(DataConfig(str(photographs), size=10), vae, cache, settings)
    tiny(tmp_path / "other", channels=3, scaling_factor=2.0)
    other = AutoencoderConfig(str(tmp_path / "other")).load()
    assert isinstance(other, VAE)
    with pytest.raises(ValueError, match=f"autoencoder.sha256: {vae.sha256[:12]} -> {other.sha256[:12]}"):
        made(photographs, other, cache, settings)
    more = tmp_path / "more"
    for path in photographs.rglob("*.png"):
        (more / path.parent.name).mkdir(parents=True, exist_ok=True)
        (more / path.parent.name / path.name).write_bytes(path.read_bytes())
    before = content(cache)
    moved = r"the same content in another place: data.source: .*photographs -> .*more$"
    with pytest.warns(RuntimeWarning, match=moved):
        assert made(more, vae, cache, settings).encoded == 0
    assert content(cache) == before
    Image.new("RGB", (8, 8)).save(more / "ant" / "new.png")
    with pytest.raises(ValueError, match="images: 14 -> 15; listing: "):
        made(more, vae, cache, settings)
    (more / "ant" / "new.png").rename(more / "bee" / "broken.png")
    with pytest.raises(ValueError, match="images: 14 -> others; listing: "):
        made(more, vae, cache, settings)


@pytest.mark.parametrize("linked", [False, True])
def test_images_and_autoencoder_that_moved_finish_the_cache_as_it_was_begun(
    linked: bool, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, encoder = shutil.copytree(photographs, tmp_path / "photos"), tmp_path / "vae"
    tiny(encoder, channels=3, scaling_factor=1.0)
    made(images, _loaded(encoder), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "ShardRecord", _Dying)
        with pytest.raises(MemoryError):
            made(images, _loaded(encoder), tmp_path / "begun")
    for path in (images, encoder):
        path.rename(path.with_name(f"new-{path.name}"))
        if linked:
            path.symlink_to(path.with_name(f"new-{path.name}"))
    there = [path if linked else path.with_name(f"new-{path.name}") for path in (images, encoder)]
    out = (tmp_path / "begun").rename(tmp_path / "moved")
    with warnings.catch_warnings(record=True) as said:
        found = made(there[0].resolve(), _loaded(there[1].resolve()), out)
    fields = [str(one.message).split(": ")[1] for one in said]
    assert fields == ["data.source", "autoencoder.source"]
    assert found.encoded == 13 - 5
    assert content(out) == content(tmp_path / "whole")
    tiny(tmp_path / "other", channels=3, scaling_factor=2.0)
    with pytest.raises(ValueError, match=r"autoencoder.sha256: \w{12} -> \w{12}"):
        made(there[0].resolve(), _loaded(tmp_path / "other"), out)


def _loaded(folder: Path) -> VAE:
    found = AutoencoderConfig(str(folder)).load()
    assert isinstance(found, VAE)
    return found


class _Dying(prepare_module.ShardRecord):
    """The second record cannot be written."""

    def to_json(self) -> str:
        if self.shard.file == "train-00001.safetensors":
            raise MemoryError
        return super().to_json()


def test_a_cache_made_again_of_a_copy_is_the_same_to_a_run(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    made(photographs, vae, tmp_path / "a")
    made(shutil.copytree(photographs, tmp_path / "copy"), vae, tmp_path / "b")
    a, b = (load_dataset(DataConfig(str(tmp_path / name))) for name in "ab")
    assert a.sha256 == b.sha256
    assert (tmp_path / "a" / "cache.json").read_bytes() != (tmp_path / "b" / "cache.json").read_bytes()
    made(photographs, vae, tmp_path / "c", replace(SMALL, flip=True))
    assert load_dataset(DataConfig(str(tmp_path / "c"))).sha256 != a.sha256


def test_the_manifest_of_an_earlier_version_stays_as_it_was(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    made(photographs, vae, tmp_path / "cache")
    path = tmp_path / "cache" / "cache.json"
    values = json.loads(path.read_text())
    del values["sha256"]
    path.write_text(json.dumps(values, indent=1))
    known, before = load_dataset(DataConfig(str(tmp_path / "cache"))).sha256, path.read_bytes()
    assert made(photographs, vae, tmp_path / "cache").encoded == 0
    assert path.read_bytes() == before
    assert load_dataset(DataConfig(str(tmp_path / "cache"))).sha256 == known


def test_a_wrong_scaling_factor_is_told(photographs: Path, tmp_path: Path) -> None:
    tiny(tmp_path / "vae", channels=3, scaling_factor=0.1)
    vae = AutoencoderConfig(str(tmp_path / "vae")).load()
    assert isinstance(vae, VAE)
    with pytest.warns(RuntimeWarning, match=r"standard deviation is 0\.10"):
        made(photographs, vae, tmp_path / "cache")


def test_two_writers_are_told_apart(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)  # a thread is as foreign to a lock as a process
    with lock(tmp_path / "cache"), pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
        pool.submit(made, photographs, vae, tmp_path / "cache").result()


def test_a_folder_of_other_files_is_left_alone(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"has other files, such as notes\.txt"):
        made(photographs, vae, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_set_of_which_most_cannot_be_used_is_no_cache(photographs: Path, vae: VAE, tmp_path: Path) -> None:
    mostly = shutil.copytree(photographs, tmp_path / "set")
    for number in range(14):
        (mostly / "bee" / f"more {number}.png").write_text("no image")
    with pytest.raises(ValueError, match=r"15 of the 28 images in .* cannot be used, .* one is bee/"):
        made(mostly, vae, tmp_path / "cache")
    assert not (tmp_path / "cache" / "cache.json").exists()


def test_latents_that_are_not_finite_are_skipped(
    photographs: Path, vae: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = vae.encode

    def overflowing(images: torch.Tensor) -> object:
        found = encode(images)
        return found._replace(mean=found.mean * torch.where(images[:, :1, :1, :1] > 0.5, 1e6, 1.0))

    monkeypatch.setattr(vae, "encode", overflowing)
    found = made(photographs, vae, tmp_path / "cache")
    assert found.manifest.skipped > 1
    assert "its latent is not finite" in (tmp_path / "cache" / "skipped.txt").read_text()
    assert found.manifest.images == 14 - found.manifest.skipped
    assert found.manifest.std < 10
