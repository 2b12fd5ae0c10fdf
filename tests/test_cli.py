import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fpdm import cli
from fpdm.experiments.recipes import recipe
from fpdm.models import TransformerConfig, as_dit
from fpdm.training import Trainer

SHAPE = TransformerConfig(
    image_size=8, in_channels=1, patch_size=4, width=16, heads=2, num_classes=10, learn_variance=False
)


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs of two steps, on real digits."""
    from fpdm.data import load

    folder, made = tmp_path_factory.mktemp("runs"), {}
    for model, shape in {"fpdm": SHAPE, "dit": as_dit(SHAPE, 4)}.items():
        settings = replace(recipe("digits", model, steps=2, batch_size=4), model=shape)
        Trainer(settings, load("digits", "train"), folder / model).train()
        made[model] = folder / model
    return made


@pytest.mark.parametrize(
    ("model", "parameters"), [("fpdm-xl/2", 86_500_256), ("dit-xl/2", 674_834_720)], ids=["fpdm", "dit"]
)
def test_describe_prints_the_papers_counts(capsys: pytest.CaptureFixture[str], model: str, parameters: int) -> None:
    assert run("describe", model, "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert described["parameters"] == parameters
    assert sum(described["parameters_by_part"].values()) == parameters
    assert run("describe", model) == 0
    assert f"{parameters:,}" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fpdm.cli import main\n"
        "assert main(['--help']) == 0 and main(['train', '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "example:" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "digitz", "--out", "X"], "did you mean digits?"),
        (["train", "digits", "--out", "X", "--stepz", "3"], "unknown argument --stepz; did you mean --steps?"),
        (["train", "digits", "--out", "X", "--steps", "three"], "invalid int value: 'three'"),
        (["train", "digits", "--out", "X", "--steps", "0"], "steps, seconds and macs are all 0"),
        (["train", "digits", "--out", "X", "--seconds", "nan"], "seconds is nan"),
        (["train", "digits", "--out", "X", "--batch-size", "-4"], "batch_size is -4"),
        (["train", "digits", "--out", "X", "--model", "unet"], "there is no model 'unet'"),
        (["train", "digits"], "--out"),
        (["trian"], "did you mean train?"),
        (["describe", "fpdm-xxl/2"], "there is no model 'fpdm-xxl/2'"),
        (["describe", "fpdm-xl/2", "--iterations", "0"], "iterations is 0"),
        (["sample", "X/none", "--out", "X"], "no run with a checkpoint"),
        (["train", "fashion-mnist", "--out", "X", "--data-root", "X/none"], "none"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], says: str
) -> None:
    assert run(*[word.replace("X", str(tmp_path / "x"), 1) if word.startswith("X") else word for word in words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_known_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert run("train", "digits", "--out", tmp_path / "file" / "run") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_own_errors_have_their_codes(capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path) -> None:
    (state,) = (runs["dit"] / "checkpoints").rglob("state.json")
    content = state.read_text()
    state.write_text(content + " ")
    assert run("sample", runs["dit"], "--out", tmp_path) == 3
    state.write_text(content)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fpdm: warning: ")
    assert "all 1 checkpoints" in lines[-1]


def test_sample_writes_exactly_what_was_asked_for(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path
) -> None:
    settings = ("--budget", 28, "--iterations", 5, "--seed", 4)
    assert run("sample", runs["fpdm"], "--out", tmp_path / "a", "--num-images", 5, "--batch-size", 2, *settings) == 0
    assert "5 images" in capsys.readouterr().out
    images = sorted((tmp_path / "a").glob("0*.png"))
    assert [path.name for path in images] == [f"{i:06d}.png" for i in range(5)]
    before = [path.read_bytes() for path in images]
    # An interrupted run: one image is missing, one cut off. It is finished, with the same images.
    images[1].unlink()
    os.truncate(images[3], len(before[3]) // 2)
    assert run("sample", runs["fpdm"], "--out", tmp_path / "a", "--num-images", 5, "--batch-size", 3, *settings) == 0
    assert "2 images" in capsys.readouterr().out
    assert [path.read_bytes() for path in images] == before
    assert run("sample", runs["fpdm"], "--out", tmp_path / "a", "--num-images", 5, *settings) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert run("sample", runs["fpdm"], "--out", tmp_path / "a", "--num-images", 5, "--budget", 35) == 2
    assert "another plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--sampler", "ddpm", "--guidance", 2],
        ["--sampler", "second-order", "--grid", "phi^1.5", "--allocation", "increasing"],
        ["--sampler", "unipc", "--allocation", "decreasing", "--no-reuse"],
        ["--sampler", "dpmsolver++", "--grid", "linspace", "--solver", "anderson"],
        ["--allocation", "adaptive", "--iterations", 3, "--class", 7],
    ],
)
def test_every_option_of_sample_is_heard(runs: dict[str, Path], tmp_path: Path, options: list[object]) -> None:
    """Each set of options gives an image of its own."""
    common = ("--num-images", 1, "--budget", 60)
    assert run("sample", runs["fpdm"], "--out", tmp_path / "plain", *common) == 0
    assert run("sample", runs["fpdm"], "--out", tmp_path / "other", *common, *options) == 0
    plain, other = (Image.open(tmp_path / name / "000000.png").tobytes() for name in ("plain", "other"))
    assert plain != other


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("fpdm", ["--budget", 2], "expected at least 3"),
        ("fpdm", ["--budget", 6], "at least 7"),
        ("dit", ["--budget", 3], "at least 4"),
        ("dit", ["--iterations", 5], "stack of 2 blocks"),
        ("dit", ["--allocation", "adaptive"], "stack of blocks"),
        ("fpdm", ["--budget", 7007], "1001; expected 1 to 1000"),
        ("fpdm", ["--class", 10], "class 10 is out of range; expected 0 to 9"),
        ("fpdm", ["--num-images", 0], "num_images 0"),
        ("fpdm", ["--guidance", "nan"], "guidance scale is nan"),
        ("fpdm", ["--grid", "leading"], "no timestep grid 'leading'"),
        ("fpdm", ["--sampler", "pndm"], "no sampler 'pndm'"),
        ("fpdm", ["--seed", -1], "seed is -1"),
    ],
)
def test_plans_that_cannot_be(
    capsys: pytest.CaptureFixture[str],
    runs: dict[str, Path],
    tmp_path: Path,
    model: str,
    options: list[object],
    says: str,
) -> None:
    assert run("sample", runs[model], "--out", tmp_path, *options) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_compare(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    words = (
        "compare",
        runs["fpdm"],
        runs["dit"],
        "--budgets",
        8,
        14,
        "--iterations",
        5,
        "--num-images",
        40,
        "--grid",
        "trailing",
        "phi^2",
    )
    assert run(*words, "--out", out) == 0
    assert "450 test images of digits" in capsys.readouterr().out
    found = json.loads((out / "compare.json").read_text())
    assert [(r["model"], r["budget"], r["steps"], r["iterations"]) for r in found["rows"]] == [
        ("fpdm-digits", 8, 1, 5),
        ("dit-digits", 8, 2, 2),
        ("fpdm-digits", 14, 2, 5),
        ("dit-digits", 14, 3, 2),
    ]
    assert {row["grid"] for row in found["rows"]} <= {"trailing", "phi^2"}
    for row in found["rows"]:
        assert row["distance_low"] <= row["distance"] <= row["distance_high"]
        assert row["passes"] <= row["budget"]
        assert row["distance"] > found["floor"]  # two steps of training make no digits
    assert {path.name for path in out.iterdir()} == {"compare.json", "samples.png", "distance.png"}


def test_trained_run_has_nothing_left_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fpdm.experiments.recipes._SMALL_TRAINING", {"batch_size": 2})
    words = ("train", "digits", "--steps", 2, "--out", tmp_path, "--no-grad-iters", 0, "--grad-iters", 1)
    assert run(*words) == 0
    assert "trained fpdm-digits: 2 steps" in capsys.readouterr().out
    assert run(*words) == 0
    assert "nothing left to do" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_by_the_same_command(tmp_path: Path) -> None:
    """kill -9, again and again, until the run is through: its weights are those of one that was left alone."""
    import torch

    from tests.training.small import saved

    def command(out: str) -> list[str]:
        options = ("--steps", "200", "--batch-size", "8", "--checkpoint-every", "4")
        return [sys.executable, "-m", "fpdm", "train", "digits", "--out", str(tmp_path / out), *options]

    environment, folder = {**os.environ, "OMP_NUM_THREADS": "1"}, tmp_path / "killed" / "checkpoints"
    subprocess.run(command("whole"), check=True, env=environment)
    rng = random.Random(0)
    for _ in range(5):
        before = set(folder.glob("step-*"))
        process = subprocess.Popen(command("killed"), env=environment)
        while not set(folder.glob("step-*")) - before:  # it has come further than the one before
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        time.sleep(0.5 * rng.random())
        process.kill()
        process.wait()
    subprocess.run(command("killed"), check=True, env=environment)
    whole, killed = saved(tmp_path / "whole", 200), saved(tmp_path / "killed", 200)
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
