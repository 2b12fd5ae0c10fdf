from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from diffusers import UniPCMultistepScheduler
from PIL import Image

from fpdm import FPDMPipeline, cli
from tests.trained import train_fpdm_and_dit


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train_fpdm_and_dit(tmp_path_factory.mktemp("runs"))


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
        ["--self-guidance", 1.5, "--weak-depth", 2, "--self-guidance-range", 100, 900],
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
        ("fpdm", ["--budget", 6, "--iterations", 5], "at least 7"),
        ("dit", ["--budget", 3], "at least 4"),
        ("dit", ["--iterations", 5], "stack of 2 blocks"),
        ("dit", ["--allocation", "adaptive"], "stack of blocks"),
        ("fpdm", ["--budget", 7007, "--iterations", 5], "1001; expected 1 to 1000"),
        ("fpdm", ["--class", 10], "there is no class '10'; expected one of 0, 1, 2"),
        ("fpdm", ["--class", "seven"], "there is no class 'seven'; expected one of 0, 1, 2"),
        ("fpdm", ["--class", "-1"], "there is no class '-1'"),
        ("fpdm", ["--num-images", 0], "num_images is 0"),
        ("fpdm", ["--guidance", "nan"], "guidance is nan; expected a finite number"),
        ("fpdm", ["--guidance", "inf"], "guidance is inf; expected a finite number"),
        ("fpdm", ["--guidance", "-inf"], "guidance is -inf; expected a finite number"),
        ("fpdm", ["--self-guidance", "nan"], "self_guidance is nan; expected a finite number"),
        ("fpdm", ["--self-guidance", 1, "--weak-depth", "one"], "--weak-depth is 'one'; expected an integer"),
        ("fpdm", ["--self-guidance", 1, "--self-guidance-range", 5], "expected two timesteps, the lower one first"),
        ("fpdm", ["--weak-depth", 1], "weak_depth is given, but self_guidance is 0"),
        ("dit", ["--self-guidance", 1, "--weak-depth", 2], "weak_depth is 2; expected 0 to 1, fewer than the 2 blocks"),
        ("dit", ["--self-guidance", 1, "--budget", 4], "below one step with self-guidance; expected at least 5"),
        ("fpdm", ["--allocation", "constnat"], "did you mean constant?"),
        ("fpdm", ["--grid", "leading"], "the timestep grid is 'leading'; expected trailing, linspace or phi^P"),
        ("fpdm", ["--sampler", "pndm"], "--sampler is 'pndm'; expected one of ddim, ddpm"),
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


def test_sample_can_be_read_by_a_machine(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path
) -> None:
    command = ("sample", runs["fpdm"], "--out", tmp_path / "a", "--budget", 14, "--num-images", 3, "--json")
    assert run(*command) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert (drawn["images"], drawn["drawn"], drawn["steps"], drawn["passes"]) == (3, 3, 2, 14.0)
    assert run(*command) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["images"], again["drawn"], again["passes"]) == (3, 0, None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scheduler", "pndm"], "PNDMScheduler does not end in pure noise (zero terminal SNR), as the model does; "),
        (["--scheduler", "unpic"], "there is no scheduler 'unpic'; expected the name of one of diffusers"),
        (["--scheduler", "unpic"], "did you mean UniPCMultistepScheduler?"),
        (["--scheduler", "unipc", "--grid", "linspace"], "grid is 'linspace', but UniPCMultistepScheduler makes the"),
        (["--scheduler", "ddpm", "--sampler", "unipc"], "--sampler is unipc, but --scheduler ddpm stands for ddpm"),
    ],
)
def test_schedulers_that_cannot_be(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path, options: list[str], says: str
) -> None:
    assert run("sample", runs["fpdm"], "--out", tmp_path / "out", *options) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_scheduler_of_diffusers_makes_the_images_of_the_pipeline(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path
) -> None:
    pipe = FPDMPipeline.from_pretrained(runs["fpdm"])
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    expected = pipe(seed=4, num_images=2, budget=28, iterations=5).images
    common = ("--out", tmp_path / "out", "--num-images", 2, "--budget", 28, "--iterations", 5, "--seed", 4)
    assert run("sample", runs["fpdm"], *common, "--scheduler", "unipc") == 0
    for index, image in enumerate(expected):
        assert Image.open(tmp_path / "out" / f"{index:06d}.png").tobytes() == image.tobytes()
    assert json.loads((tmp_path / "out" / "sampling.json").read_text())["scheduler"] == "UniPCMultistepScheduler"
    # The same command finds nothing to do, and one without the scheduler says what is different.
    assert run("sample", runs["fpdm"], *common, "--scheduler", "UniPCMultistepScheduler") == 0
    capsys.readouterr()
    assert run("sample", runs["fpdm"], *common) == 2
    assert "holds samples made with another scheduler" in capsys.readouterr().err
    # Two of its names stand for our own samplers.
    for name, words in (("ddpm", ["--scheduler", "ddpm"]), ("plain", ["--sampler", "ddpm"])):
        assert run("sample", runs["fpdm"], "--out", tmp_path / name, "--num-images", 1, *words) == 0
    assert (tmp_path / "ddpm" / "000000.png").read_bytes() == (tmp_path / "plain" / "000000.png").read_bytes()


def test_a_saved_pipeline_is_sampled_as_its_run_is(runs: dict[str, Path], tmp_path: Path) -> None:
    FPDMPipeline.from_pretrained(runs["fpdm"]).save_pretrained(tmp_path / "saved")
    for name, model in (("a", runs["fpdm"]), ("b", tmp_path / "saved")):
        assert run("sample", model, "--out", tmp_path / name, "--num-images", 2, "--class", "7", "--budget", 28) == 0
    for index in range(2):
        a, b = (Image.open(tmp_path / name / f"{index:06d}.png").tobytes() for name in "ab")
        assert a == b


def test_what_is_no_model_is_a_users_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("", "nothing", f"{tmp_path}/nothing", "./owner/model"):
        assert run("sample", name, "--out", tmp_path / "out") == 2
        said = capsys.readouterr().err
        assert said.startswith(f"fpdm: there is no model '{name[:20]}")  # the middle of a long name is left out
        assert "'; expected a folder" in said
    assert not (tmp_path / "out").exists()
