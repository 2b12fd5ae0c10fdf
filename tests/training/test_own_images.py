"""Training on a folder of images with nothing else said."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fpdm.training.own_images as module
from fpdm import cli
from fpdm.data.config import DataConfig
from fpdm.errors import Interrupted
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import load_run
from fpdm.training.autoencoder.config import AUTOENCODER
from fpdm.training.autoencoder.trainer import AutoencoderTrainer
from fpdm.training.choice import Choice
from tests.training.test_choice import Machine

SMALL = ("--width", 16, "--heads", 2, "--batch-size", 4, "--tracker", "none", "--sample-every", 0)


def fpdm(*words: object) -> int:
    return cli.main([str(word) for word in words])


def images(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Images of two colours with a border between them, which say nothing about their speed."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = np.empty((size[1], size[0], 3), np.uint8)  # (H, W, 3)
        edge = rng.integers(1, size[0])
        pixels[:, :edge], pixels[:, edge:] = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the speed of the machine, as it is measured, and let each step take a quarter of a second."""

    def be(speed: float) -> None:
        monkeypatch.setattr(module, "MeasuredSpeed", lambda _: Machine(speed, speed))

    monkeypatch.setattr("fpdm.training.timer.StepTimer.stop", lambda _: 0.25)
    be(100.0)
    return be


def test_seven_images_are_refused(
    capsys: pytest.CaptureFixture[str], machine: Callable[[float], None], tmp_path: Path
) -> None:
    assert fpdm("train", "--data", images(tmp_path / "few", 7, (9, 9)), "--out", tmp_path / "run") == 2
    assert re.search(r"few has 7 images.*expected 20 or more", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_folder_by_one_command(
    capsys: pytest.CaptureFixture[str], machine: Callable[[float], None], tmp_path: Path
) -> None:
    photos, out = images(tmp_path / "photos", 30, (20, 12)), tmp_path / "run"
    command = ("train", "--data", photos, "--out", out, *SMALL)
    assert fpdm(*command, "--seconds", 1.25) == 0
    captured = capsys.readouterr()
    assert "12 x 12 pixels, in colour, cropped to squares" in captured.err
    assert "trained fpdm-elastic-photos: 5 steps" in captured.out
    assert "learned   5 steps, which saw 20 images" in captured.out
    assert f"next      fpdm sample {out}" in captured.out
    run = load_run(out)
    assert run.recipe.data.size == run.recipe.model.image_size == 12
    assert run.recipe.train.rate(run.progress) == 0

    # The same command has nothing left to do, whatever the machine does now; more time goes on with it.
    machine(1.0)
    assert fpdm(*command, "--seconds", 1.25) == 0
    captured = capsys.readouterr()
    assert "nothing left to do" in captured.out
    assert "choice.json in it says" in captured.err
    assert fpdm(*command, "--seconds", 2.0) == 0
    assert "8 steps" in capsys.readouterr().out
    assert fpdm(*command, "--seconds", 2.0, "--width", 32) == 2
    assert "model.width: 16 -> 32" in capsys.readouterr().err
    recorded = json.loads((out / "choice.json").read_text())
    assert (recorded["recipe"]["model"]["width"], recorded["seconds"]) == (16, 2.0)


def test_dry_run_prints_the_choice_with_its_steps(
    capsys: pytest.CaptureFixture[str], machine: Callable[[float], None], tmp_path: Path
) -> None:
    photos = images(tmp_path / "photos", 30, (12, 12))
    command = ("train", "--data", photos, "--minutes", 10, "--dry-run", *SMALL)
    assert fpdm(*command) == 0
    shown = capsys.readouterr().out
    assert "12 x 12 pixels" in shown
    assert re.search(r"steps +about [\d,]+ of 4 images;", shown)
    assert re.search(r"time +10 min on a machine: \d min for the steps, the rest for", shown)
    assert re.search(r"memory +about [\d.]+ GB\nnothing was trained", shown)
    assert fpdm(*command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["choice"]["asked"] == 540
    assert found["steps"] > 0
    assert [*tmp_path.iterdir()] == [photos]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--minutes", 1, "--seconds", 5), "--minutes 1 and --seconds 5: give one of them"),
        (("--space", "latents", "--steps", 2), "--space latents is for --data FOLDER"),
        (("--minutes", -1), "minutes is -1"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[object, ...], says: str) -> None:
    photos = images(tmp_path / "photos", 20, (8, 8))
    assert fpdm("train", "--data", photos, "--out", tmp_path / "run", *words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_minutes_begin_with_the_command(
    capsys: pytest.CaptureFixture[str], machine: Callable[[float], None], tmp_path: Path
) -> None:
    photos, out = images(tmp_path / "photos", 30, (8, 8)), tmp_path / "run"
    base, given = make_recipe("folder", data=DataConfig(str(photos))), frozenset[str]()
    settings = replace(base, train=replace(base.train, steps=0, seconds=540))
    late = module.decide(settings, None, given=given, space="", whole=600, started=time.monotonic() - 200)
    assert 380 < late.seconds < 400
    assert capsys.readouterr().err.startswith(f"timing a few steps for {photos} on this machine")
    # The same command later is the same run, and so are the same minutes.
    out.mkdir()
    (out / "choice.json").write_text(late.to_json())
    for words in ({"minutes"}, given):
        again = module.decide(settings, out, given=frozenset(words), space="", whole=600, started=time.monotonic())
        assert again == late
    assert module.decide(settings, out, given=frozenset({"seconds"}), space="").seconds == 540


def test_minutes_are_for_everything_and_seconds_for_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert fpdm("train", "digits", "--minutes", 10, "--print-recipe") == 0
    train = Recipe.from_json(capsys.readouterr().out).train
    assert (train.steps, train.seconds) == (0, 540)


def test_with_steps_it_is_the_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    photos = images(tmp_path / "photos", 20, (40, 40))
    assert fpdm("train", "--data", photos, "--steps", 2, "--print-recipe") == 0
    found = Recipe.from_json(capsys.readouterr().out)
    assert (found.name, found.data.size, found.train.batch_size) == ("fpdm-photos", 32, 128)


def test_latents_are_made_first_and_all_of_it_may_be_interrupted_and_moved(
    capsys: pytest.CaptureFixture[str],
    machine: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    photos, out = images(tmp_path / "photos", 30, (16, 16)), tmp_path / "run"
    command = ("train", "--data", photos, "--space", "latents", *SMALL, "--seconds", 6.0)
    train, stopped = AutoencoderTrainer.train, []

    def stop_once(trainer: AutoencoderTrainer):
        if not stopped:
            stopped.append(True)
            with AUTOENCODER.hold(trainer.out):
                trainer.loop.step()
                trainer.loop.save()
            raise Interrupted("stopped", 15)
        return train(trainer)

    monkeypatch.setattr(AutoencoderTrainer, "train", stop_once)
    assert fpdm(*command, "--out", out) == 128 + 15
    chosen = Choice.read(out / "choice.json")
    assert chosen is not None
    assert (chosen.stages, chosen.autoencoder_seconds) == ((16, 32), 1.5)
    machine(1.0)  # which would choose otherwise
    capsys.readouterr()
    assert fpdm(*command, "--out", out) == 0
    captured = capsys.readouterr()
    assert "autoencoder: 7 steps" in captured.err  # one before it was stopped, whose second was not counted
    assert "18 steps" in captured.out
    assert load_run(out).recipe.model.in_channels == 4
    assert load_run(out).image_shape == (3, 16, 16)

    # Wherever the run goes, its autoencoder and its latents go with it.
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    shutil.move(out, moved)
    assert load_run(moved).image_shape == (3, 16, 16)
    assert fpdm(*command, "--out", moved) == 0
    assert "nothing left to do" in capsys.readouterr().out
    sampled = ("--budget", 6, "--iterations", 1, "--num-images", 1)
    assert fpdm("sample", moved, "--out", tmp_path / "images", *sampled) == 0


def test_a_run_of_the_recipe_goes_on_as_one(
    capsys: pytest.CaptureFixture[str], machine: Callable[[float], None], tmp_path: Path
) -> None:
    photos, out = images(tmp_path / "photos", 30, (8, 8)), tmp_path / "run"
    given = ("--data", photos, "--size", 8, *SMALL, "--validate-every", 0, "--out", out)
    assert fpdm("train", "folder", *given, "--seconds", 0.5) == 0
    capsys.readouterr()
    assert fpdm("train", *given, "--seconds", 0.75) == 0
    assert "3 steps" in capsys.readouterr().out
    assert not (out / "choice.json").exists()
    assert Recipe.read(out / "recipe.json").name == "fpdm-photos"
