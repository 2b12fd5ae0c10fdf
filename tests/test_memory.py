"""What is free, held to /proc/meminfo and to control groups made by hand; the checks, to what fits by a byte."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from fpdm import memory
from fpdm.cli import main
from fpdm.memory import check_disk, check_memory, free_memory
from tests.autoencoders import tiny
from tests.evaluation.scripts import Small, saved
from tests.trained import train_fpdm_and_dit


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(memory, "free_memory", lambda device: 3 * 2**30)
    return 3 * 2**30


def test_memory_is_refused_from_the_first_byte_that_is_too_much(free: int) -> None:
    check_memory(free, "this", "less")
    with pytest.raises(
        ValueError, match=r"^this needs at least 3 GiB of memory; this machine has 3 GiB to give: use l"
    ):
        check_memory(free + 1, "this", "less")


@pytest.mark.parametrize(("device", "place"), [("cpu", "machine"), ("mps", "machine"), ("cuda:1", "GPU")])
def test_messages_name_the_place_and_both_numbers(free: int, device: str, place: str) -> None:
    with pytest.raises(ValueError, match=rf"needs at least 1,024 GiB of memory; this {place} has 3 GiB to give"):
        check_memory(2**40, "this", "less", device=device)
    with pytest.raises(ValueError, match=r"needs at least 9\.31e\+20 GiB"):
        check_memory(10**30, "this", "less", device=device)


def test_disk_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: asked.append(path) or usage)
    check_disk(10**6, tmp_path / "new" / "deep", "this")
    check_disk(-5, tmp_path, "what is there already")
    with pytest.raises(ValueError, match=r"this takes at least 0\.000931 GiB on disk; .* has 0\.000931 GiB free"):
        check_disk(10**6 + 1, tmp_path / "new", "this")
    assert asked == [tmp_path] * 3
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: usage._replace(total=0, free=0))  # of some networks
    check_disk(10**20, tmp_path, "this")


def test_the_disk_is_asked_of_the_working_folder_for_a_relative_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_disk(1, Path("new"), "this")
    with pytest.raises(ValueError, match=f"on disk; {tmp_path} has"):
        check_disk(10**20, Path("new"), "this")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/meminfo")
def test_free_memory_is_what_the_kernel_calls_available_or_less(monkeypatch: pytest.MonkeyPatch) -> None:
    words = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kernel = {key: 1024 * int(words[key].split()[0]) for key in ("MemTotal", "MemAvailable", "SwapFree")}
    assert 2**20 < free_memory() <= kernel["MemTotal"] + kernel["SwapFree"]
    monkeypatch.setattr(memory, "_left_in_groups", lambda: [])
    assert free_memory() == pytest.approx(kernel["MemAvailable"] + kernel["SwapFree"], rel=0.2)
    monkeypatch.setattr(memory, "_left_in_groups", lambda: [5000, 7000])
    assert free_memory() == pytest.approx(5000 + psutil.swap_memory().free, abs=2**24)
    monkeypatch.setattr(memory, "_left_in_groups", lambda: [-5000])  # a group above its limit
    assert 0 <= free_memory() == pytest.approx(psutil.swap_memory().free, abs=2**24)


def test_where_swap_space_grows_all_of_the_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert free_memory() == free_memory("mps") == psutil.virtual_memory().total


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU")
def test_free_memory_of_a_gpu() -> None:
    held = torch.zeros(2**28, dtype=torch.uint8, device="cuda")
    found = free_memory("cuda")
    del held
    torch.cuda.empty_cache()
    assert found + 2**28 <= free_memory("cuda") <= torch.cuda.get_device_properties(0).total_memory


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def left(tmp_path: Path, own: str) -> list[int]:
    (tmp_path / "own").write_text(own)
    return [*memory._left_in_groups(tmp_path / "cgroup", tmp_path / "own")]


def test_every_limit_above_a_process_counts_in_version_2(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    stat = "anon 700\ninactive_file 20\nactive_file 3\nslab_reclaimable 1\nslab_unreclaimable 500"
    group(root / "a", memory__max=1000, memory__current=900, memory__stat=stat)
    group(root / "a/b", memory__max="max", memory__current=850, memory__stat=stat)
    group(root / "a/b/c", memory__max=800, memory__current=100, memory__stat="anon 100")
    group(root / "other", memory__max=1, memory__current=1, memory__stat="anon 0")
    group(tmp_path, memory__max=7, memory__current=0, memory__stat="anon 0")  # above the root: none of ours
    assert left(tmp_path, "0::/a/b/c\n") == [700, 124]
    assert left(tmp_path, "0::/a/b\n") == [124]


def test_limits_count_in_version_1(tmp_path: Path) -> None:
    root = tmp_path / "cgroup" / "memory"
    stat = "inactive_file 1\ntotal_inactive_file 30\ntotal_active_file 5"  # own, and with all groups below
    group(root / "job", memory__limit_in_bytes=1000, memory__usage_in_bytes=400, memory__stat=stat)
    group(root, memory__limit_in_bytes=2**63, memory__usage_in_bytes=0, memory__stat="anon 0")
    own = "12:cpuset:/job\n4:memory:/job\n1:name=systemd:/job\n"
    assert left(tmp_path, own) == [635, 2**63]


def test_a_container_that_sees_its_group_as_the_root(tmp_path: Path) -> None:
    group(tmp_path / "cgroup", memory__max=50, memory__current=8, memory__stat="anon 0")
    assert left(tmp_path, "0::/system.slice/of-the-host\n") == [42]
    assert left(tmp_path, "0::/../..\n") == [42]


@pytest.mark.parametrize("own", ["", "0::/\n", "rubbish\n"])
def test_no_groups_are_no_limit(tmp_path: Path, own: str) -> None:
    assert left(tmp_path, own) == []
    assert [*memory._left_in_groups(tmp_path / "cgroup", tmp_path / "missing")] == []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, images, an autoencoder, and a reference of the mean colours of images."""
    place = tmp_path_factory.mktemp("place")
    (place / "images").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)):
        Image.fromarray(pixels).save(place / "images" / f"{number}.png")
    train_fpdm_and_dit(place)
    tiny(place / "autoencoder", channels=3)
    saved(Small(), place / "colours.pt")
    words = ["reference", f"{place}/images", "--size", "8", "--extractor", f"{place}/colours.pt"]
    assert main([*words, "--out", f"{place}/reference.npz"]) == 0
    return place


TRAIN = "train digits --steps 1"
FOLDER = "train folder --data images --steps 1"
AUTOENCODER = "train-autoencoder images --steps 1"
EVALUATE = "evaluate fpdm --reference reference.npz --extractor colours.pt"
ABSURD = {
    f"{TRAIN} --batch-size 10000000": "a training step of 10,000,000 images at once needs",
    f"{TRAIN} --width 4000000": "the training of a model of 1.02e+15 parameters needs",
    f"{TRAIN} --model dit-1000000": "the training of a model of 7.47e+10 parameters needs",
    f"{TRAIN} --model shared-1000000": "a training step of 128 images at once needs",
    f"{TRAIN} --middle-blocks 1000000": "parameters needs",
    f"{TRAIN} --pre-blocks 10000000 --dry-run": "parameters needs",
    f"{TRAIN} --grad-iters 1000 --batch-size 100000": "a training step of 100,000 images at once needs",
    f"{FOLDER} --size 65536": "the training of a model of",
    f"{FOLDER} --size 4096 --patch-size 1": "needs at least",
    f"{FOLDER} --size 3000 --patch-size 3": "a training step of 128 images at once needs",
    "sample fpdm --num-images 1000000000000000000": "a folder of 1,000,000,000,000,000,000 images needs",
    "sample fpdm --num-images 10000000 --batch-size 10000000": "sampling 10,000,000 images at once needs",
    "sample dit --num-images 10000000 --batch-size 10000000": "sampling 10,000,000 images at once needs",
    f"{EVALUATE} --num-images 1000000000000000000": "images takes at least 2.24e+10 GiB on disk",
    f"{EVALUATE} --num-images 10000000 --batch-size 10000000 --piece-size 10000000": "sampling 10,000,000 images at",
    "compare fpdm dit --num-images 1000000000000": "use fewer --num-images",
    "compare fpdm dit --choosing-images 1000000000000": "use fewer --choosing-images",
    "compare fpdm dit --sweep 1 2 --sweep-images 1000000000000": "use fewer --sweep-images",
    "compare fpdm --num-images 10000000 --batch-size 10000000": "sampling 10,000,000 images at once needs",
    "prepare images --autoencoder autoencoder --size 65536": "encoding 14 images at once needs",
    "prepare images --autoencoder autoencoder --pad 65536": "encoding 14 images at once needs",
    "reference images --size 65536 --extractor colours.pt": "a piece of 24 images needs",
    f"{AUTOENCODER} --stage-channels 4000000": "the training of this autoencoder needs",
    f"{AUTOENCODER} --latent-channels 100000000": "the training of this autoencoder needs",
    f"{AUTOENCODER} --batch-size 10000000": "a training step of 10,000,000 images needs",
    f"{AUTOENCODER} --size 65536 --batch-size 1": "a training step of 1 image needs",
    f"{AUTOENCODER} --pad 4096": "a training step of 32 images needs",
}


@pytest.mark.parametrize("words", ABSURD)
def test_what_cannot_fit_is_refused_with_both_numbers_before_anything_is_made(
    words: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(memory, "free_memory", lambda device: 10 * 2**30)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: SimpleNamespace(total=2**40, free=100 * 2**30))
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert main([*words.split(), "--out", f"{tmp_path}/out{'.npz' if words.startswith('reference') else ''}"]) == 2
    *warnings, said = capsys.readouterr().err.splitlines()
    assert ABSURD[words] in said
    assert ("100 GiB free" if "on disk" in said else "10 GiB to give") in said
    assert len(said) <= 200
    assert all("warning" in line for line in warnings)
    assert not any(tmp_path.iterdir())
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
