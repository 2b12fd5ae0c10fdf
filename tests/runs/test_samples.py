"""Samples in a folder: whose they are, which are missing, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.drawing.images import save_png
from fpdm.files import read_json
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.progress import Progress
from fpdm.runs.run import Run
from fpdm.runs.samples import Sampled, check_claim, claim, sample_to_folder, settings_of
from fpdm.sampling.plan import Plan
from tests.training.small import SHAPE, recipe

PLAN = Plan(8, 2)


@pytest.fixture(scope="module")
def run() -> Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DiffusionTransformer.from_shape(SHAPE)
        for parameter in model.parameters():  # the head begins at 0, and all labels would look the same
            torch.nn.init.normal_(parameter, std=0.3)
    return Run(recipe(), model.eval(), Progress(step=7), "a weight's hash")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("label", "labels"), [(None, [0, 1, 2, 0, 1]), (2, [2, 2, 2, 2, 2])])
def test_files_are_the_samplers_images_with_labels_in_turn_or_one_label(
    run: Run, tmp_path: Path, label: int | None, labels: list[int]
) -> None:
    found = sample_to_folder(run, PLAN, 5, tmp_path, seed=3, batch_size=2, label=label)
    assert (found.images, found.drawn, found.steps, found.budget, found.passes) == (5, 5, 2, 8, 8.0)
    with torch.no_grad():
        expected = run.sampler(PLAN, seed=3)(range(5), labels).pixels  # (5, 1, 4, 4)
    names = [f"{index:06d}.png" for index in range(5)]
    for name, image in zip(names, expected.numpy(), strict=True):
        assert np.abs(pixels(tmp_path / name).astype(int) - image[0]).max() <= 1  # rounding in other batches
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".fpdm.json",
        ".lock",
        *names,
        "grid.png",
        "sampling.json",
    ]
    assert pixels(tmp_path / "grid.png").shape == (64, 8 * 68 - 4, 3)
    settings = read_json(tmp_path / "sampling.json")
    assert settings == {
        **json.loads(json.dumps(settings_of(run, run.sampler(PLAN, seed=3)))),
        "class": label,
    }
    assert (settings["run"], settings["trained_steps"], settings["weights_sha256"]) == ("small", 7, "a weight's hash")


def test_images_that_are_there_are_kept(run: Run, tmp_path: Path) -> None:
    sample_to_folder(run, PLAN, 2, tmp_path, seed=3, batch_size=2)
    white = np.full((4, 4), 255, np.uint8)
    Image.fromarray(white).save(tmp_path / "000000.png")
    (tmp_path / "000001.png").write_bytes(b"cut off")
    found = sample_to_folder(run, PLAN, 3, tmp_path, seed=3, batch_size=2)
    assert (found.images, found.drawn) == (3, 2)
    assert (pixels(tmp_path / "000000.png") == white).all()
    with pytest.raises(ValueError, match=r"made with another seed; choose another folder"):
        sample_to_folder(run, PLAN, 3, tmp_path, seed=4, batch_size=2)
    with pytest.raises(ValueError, match=r"made with another class"):
        sample_to_folder(run, PLAN, 3, tmp_path, seed=3, batch_size=2, label=1)


@pytest.mark.parametrize(("num_images", "batch_size"), [(0, 1), (1, 0), (-1, 1)])
def test_counts_below_one_are_refused(run: Run, tmp_path: Path, num_images: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 or more of each"):
        sample_to_folder(run, PLAN, num_images, tmp_path / "a", seed=0, batch_size=batch_size)
    assert not (tmp_path / "a").exists()


def test_an_adaptive_plan_has_no_fixed_iterations(run: Run) -> None:
    assert settings_of(run, run.sampler(PLAN))["iterations"] == [2, 2]
    assert settings_of(run, run.sampler(Plan(16, 2, allocation="adaptive")))["iterations"] is None


def test_a_folder_without_images_may_be_claimed_again(tmp_path: Path) -> None:
    claim(tmp_path, {"seed": 1})
    claim(tmp_path, {"seed": 2})
    (tmp_path / ".lock").touch()
    claim(tmp_path, {"seed": 1, "plan": 2})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "0.png").touch()
    claim(tmp_path, {"seed": 1, "plan": 2})
    with pytest.raises(ValueError, match="holds samples made with another seed and plan; choose another folder"):
        claim(tmp_path, {"seed": 2, "plan": 3})
    assert read_json(tmp_path / "sampling.json") == {"seed": 1, "plan": 2}


def test_settings_that_cannot_be_read_are_nobodys(tmp_path: Path) -> None:
    check_claim(tmp_path, {"seed": 1})
    for text in ("", "{", "[1]", "3"):
        (tmp_path / "sampling.json").write_text(text)
        with pytest.raises(ValueError, match=r"sampling\.json holds no settings of samples; choose another folder"):
            check_claim(tmp_path, {"seed": 1})


def test_self_guidance_that_nobody_asked_for_is_said(run: Run, tmp_path: Path) -> None:
    plan = replace(PLAN, self_guidance=1.0)
    found = sample_to_folder(run, plan, 1, tmp_path / "a", seed=0, batch_size=1, guided=True)
    assert found.to_text().endswith("self-guidance 1; --self-guidance 0 turns self-guidance off")
    assert "\nthe plan is the default of this model: ddim" in found.to_text()
    assert sample_to_folder(run, plan, 1, tmp_path / "b", seed=0, batch_size=1).plan == ""


def test_what_is_said_of_samples() -> None:
    new = Sampled(Path("out"), 5, 5, 2, 8, 7.25, 1.5e6, 3.21)
    assert new.to_text() == (
        "5 images in out: 2 steps, 7.2 of 8 block passes and 0.002 GMACs each, 3.2 s; grid.png shows the first of them"
    )
    assert "3 images in out (2 were there already): " in Sampled(Path("out"), 5, 3, 2, 8, 7.25, 1.5e6, 3.21).to_text()
    tuned = Sampled(Path("out"), 5, 5, 2, 8, 7.25, 1.5e6, 3.21, "tuned for 8 block passes: ddim")
    assert tuned.to_text() == f"{new.to_text()}\nthe plan is tuned for 8 block passes: ddim"
    old = Sampled(Path("out"), 5, 0, 2, 8, None, None, None)
    assert old.to_text() == "nothing left to do: 5 images are in out"
    assert json.loads(old.to_json()) == {
        "out": "out", "images": 5, "drawn": 0, "steps": 2, "budget": 8, "passes": None, "macs": None, "seconds": None,
        "plan": "",
    }  # fmt: skip


def test_another_programs_pictures_are_neither_counted_nor_replaced(run: Run, tmp_path: Path) -> None:
    save_png(np.zeros((4, 4), np.uint8), tmp_path / "000000.png")
    (tmp_path / "000001.png").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"has other files, such as 000000\.png"):
        sample_to_folder(run, PLAN, 2, tmp_path, seed=0, batch_size=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_samples_of_other_settings_are_replaced_only_if_asked_for(run: Run, tmp_path: Path) -> None:
    sample_to_folder(run, PLAN, 3, tmp_path / "a", seed=0, batch_size=2)
    sample_to_folder(run, PLAN, 2, tmp_path / "b", seed=1, batch_size=2)
    with pytest.raises(ValueError, match=r"made with another seed; .* --overwrite"):
        sample_to_folder(run, PLAN, 2, tmp_path / "a", seed=1, batch_size=2)
    found = sample_to_folder(run, PLAN, 2, tmp_path / "a", seed=1, batch_size=2, overwrite=True)
    assert found.drawn == 2
    a, b = ({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in "ab")
    assert a == b


def test_a_late_mistake_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out of range"):
        sample_to_folder(run, PLAN, 2, tmp_path / "new" / "a", seed=0, batch_size=2, label=99)
    assert not [*tmp_path.iterdir()]
