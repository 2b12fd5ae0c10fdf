"""The four commands of docs/full-size.md on a small folder in ImageNet's layout; only fields of recipes differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.data.config import DataConfig
from fpdm.data.loading import load_dataset
from fpdm.models.config import as_dit
from fpdm.runs.metrics_log import read_rows
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import load_run
from tests.autoencoders import tiny
from tests.evaluation.scripts import Small, saved

CLASSES = ("n01440764", "n01443537", "n01484850", "n01491361")
PER_CLASS = 500
# What makes a recipe small; nothing else is changed of it.
FIELDS = ["--size", "16", "--width", "32", "--heads", "2", "--batch-size", "16", "--mixed-precision", "no"]
FIELDS += ["--no-grad-iters", "2", "--grad-iters", "2", "--learning-rate", "1e-3", "--sample-every", "0"]


def fpdm(*words: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    command = [*launcher, "-m", "fpdm", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 images of many sizes; a class is a colour. One is broken."""
    root = tmp_path_factory.mktemp("imagenet") / "train"
    rng = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            height, width = rng.integers(16, 40, 2)
            pixels = rng.integers(0, 80, (height, width, 3))
            pixels[..., k % 3] += 60 * (k // 3) + 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{name}_{i}.JPEG")
    (root / CLASSES[0] / f"{CLASSES[0]}_7.JPEG").write_bytes(b"\xff\xd8\xff\xe0 no image")
    return root


@pytest.mark.slow
def test_a_folder_in_imagenets_layout_goes_through_all_four_commands(imagenet: Path, tmp_path: Path) -> None:
    tiny(tmp_path / "vae", channels=3, scaling_factor=1.0)
    saved(Small(), tmp_path / "small.pt")
    cache, run, out = tmp_path / "cache", tmp_path / "run", tmp_path / "fid"
    made = [
        "--autoencoder",
        tmp_path / "vae",
        "--size",
        16,
        "--shard-size",
        256,
        "--flip",
        "--holdout",
        0,
        "--out",
        cache,
    ]
    said = fpdm("prepare", imagenet, *made, processes=2)
    assert "1999 images" in said.stdout
    data = load_dataset(DataConfig(str(cache)))
    assert data.classes == CLASSES
    assert torch.bincount(data.splits.train.labels).tolist() == [PER_CLASS - 1, *[PER_CLASS] * 3]

    training = ["train", "imagenet-256", "--data", cache, *FIELDS, "--checkpoint-every", 5, "--log-every", 1]
    fpdm(*training, "--steps", 10, "--out", run, processes=2)
    fpdm(*training, "--steps", 20, "--out", run)  # goes on with another number of processes
    whole = load_run(run)
    expected = make_recipe("imagenet-256")
    assert whole.progress.step == 20
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == [*range(1, 21)]
    assert (whole.recipe.schedule, whole.recipe.train.label_dropout) == (expected.schedule, 0.1)
    assert whole.recipe.train.activation_checkpointing == "all"
    assert (whole.recipe.data.crop, whole.recipe.data.flip) == ("adm", True)
    assert whole.recipe.model.num_classes == len(CLASSES)
    fpdm(*training, "--model", "dit", "--steps", 2, "--out", tmp_path / "dit", "--accumulate", 2)
    dit = load_run(tmp_path / "dit").recipe.model
    assert dit == as_dit(whole.recipe.model, 28)

    fpdm(
        "sample",
        run,
        "--budget",
        24,
        "--iterations",
        2,
        "--num-images",
        6,
        "--guidance",
        2,
        "--out",
        tmp_path / "images",
    )
    assert len([*(tmp_path / "images").glob("0*.png")]) == 6
    with Image.open(tmp_path / "images" / "000000.png") as image:
        assert (image.size, image.mode) == ((16, 16), "RGB")

    reference = tmp_path / "reference.npz"
    extractor = ["--extractor", tmp_path / "small.pt"]
    fpdm("reference", imagenet, "--size", 16, "--crop", "adm", *extractor, "--out", reference)
    plan = ["--budget", 8, "--iterations", 2, "--num-images", 300, "--piece-size", 50, "--npz", *extractor]
    fpdm("evaluate", run, "--reference", reference, *plan, "--out", out, processes=2)
    result = json.loads((out / "result.json").read_text())
    assert result["distance"] > 0
    assert result["protocol"]["images"] == 300
    with np.load(out / "samples.npz") as samples:
        assert samples["arr_0"].shape == (300, 16, 16, 3)
        assert samples["arr_0"].dtype == np.uint8
