from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from fpdm import cli
from fpdm.data.sources.named import load
from fpdm.evaluation.nearest import nearest_in_pixels
from tests.trained import train_fpdm_and_dit


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train_fpdm_and_dit(tmp_path_factory.mktemp("runs"))


FEW = ("--budget", 28, "--num-images", 3, "--rows", 3, "--columns", 4)


def test_inspect_writes_what_it_says(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert run("inspect", runs["fpdm"], "--out", out, *FEW, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    written = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert {*said["files"]} == written
    assert written == {
        *("allocation.png", "inspect.json", "nearest.png", "residuals.png"),
        *("x0-by-iteration.png", "x0-by-timestep.png", "x0.gif"),
    }
    record = json.loads((out / "inspect.json").read_text())
    assert next(iter(record)) == "fpdm"  # its version, as in every file
    assert [len(row) for row in record["residuals"]["values"]] == [4, 4, 4]
    assert record["timesteps"] == sorted(record["timesteps"], reverse=True)
    with Image.open(out / "x0.gif") as film:
        assert film.n_frames == 5  # four steps and the samples
    # The same images as those of fpdm sample, and of its nearest training images those that a plain search finds.
    assert run("sample", runs["fpdm"], "--out", tmp_path / "images", "--num-images", 3, "--budget", 28) == 0
    drawn = []
    for path in sorted((tmp_path / "images").glob("0*.png")):
        with Image.open(path) as image:
            drawn.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, 8, 8))
    train = load("digits", "train").images
    distances = (torch.stack(drawn)[:, None].double() - train[None].double()).flatten(2).norm(dim=2) / 255  # (3, M)
    assert record["nearest"]["pixel_distances"] == pytest.approx(distances.min(dim=1).values.tolist())
    capsys.readouterr()
    assert run("inspect", runs["fpdm"], "--out", out, *FEW, "--seed", 1) == 2
    assert "an inspection with another settings" in capsys.readouterr().err


def test_a_dit_shows_its_blocks(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert run("inspect", runs["dit"], "--out", out, *FEW) == 0
    written = {path.name for path in out.iterdir()}
    assert {"x0-by-iteration.png", "nearest.png"} <= written
    assert not {"residuals.png", "allocation.png"} & written
    assert "after each block" in capsys.readouterr().out


def test_the_shipped_model_is_inspected_in_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("inspect", "fpdm-fashion", "--out", out, "--class", "bag", *FEW) == 0
    assert "give them with --data" in capsys.readouterr().out
    with Image.open(out / "x0.gif") as film:
        assert film.size == (3 * 84 + 2 * 4, 84 + 20)  # three images of 28 pixels, enlarged, and not latents of 8


def test_mistakes_leave_nothing(capsys: pytest.CaptureFixture[str], runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words, says in (
        (("--data", tmp_path / "none"), "the training images are not in"),
        (("--data", "fashion-mnist", "--data-root", tmp_path / "none"), ""),
        (("--class", 12), "12"),
        (("--num-images", 0), "expected 1 to 64 images"),
        (("--budget", 1), "below one step"),
    ):
        assert run("inspect", runs["fpdm"], "--out", out, *FEW, *words) == 2
        assert says in capsys.readouterr().err
        assert not out.exists()


def test_pixels_of_a_copy_are_at_distance_zero() -> None:
    draw = torch.Generator().manual_seed(0)
    training = torch.randint(0, 256, (2500, 3, 4, 4), generator=draw, dtype=torch.uint8)
    found = nearest_in_pixels(training[[7, 1500, 2499]], training)
    assert found.indices.tolist() == [7, 1500, 2499]
    assert found.distances.tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="same shape"):
        nearest_in_pixels(training[:, :1], training)
