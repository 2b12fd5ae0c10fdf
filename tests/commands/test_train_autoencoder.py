"""`fpdm train-autoencoder`: from the command line to a folder that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fpdm import cli
from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.training.autoencoder.config import AutoencoderTrainConfig
from tests.commands.parsed import values


def made(*words: str) -> AutoencoderTrainConfig:
    return values("train-autoencoder", "digits", "--out", "c", *words)["training"]


def test_seconds_alone_are_the_only_limit() -> None:
    assert (made("--seconds", "9").steps, made("--seconds", "9").seconds) == (0, 9.0)
    assert made("--seconds", "9", "--steps", "5").steps == 5
    assert made("--seconds", "0", "--steps", "5").steps == 5
    assert made("--seconds", "0").steps == AutoencoderTrainConfig().steps


def test_mistakes_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert cli.main(["train-autoencoder", "digits", "--out", out, "--stage-channels", "4", "4", "4", "4", "4"]) == 2
    assert "not divisible by the factor 16" in capsys.readouterr().err
    assert cli.main(["train-autoencoder", "digits", "--out", out, "--kl-wieght", "1"]) == 2
    assert "did you mean --kl-weight?" in capsys.readouterr().err
    assert cli.main(["train-autoencode", "digits", "--out", out]) == 2
    assert "did you mean train-autoencoder?" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_of_an_autoencoder_comes_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train-autoencoder", "digits", "--out", str(tmp_path), "--steps", "5", "--stage-channels", "4", "4"]
    assert cli.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["progress"]["step"] == 5
    assert AutoencoderConfig(str(tmp_path)).load().sha256 == report["sha256"]
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_too_few_images_to_judge_by_are_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "five").mkdir()
    for i in range(5):
        Image.new("L", (8, 8), 40 * i).save(tmp_path / "five" / f"{i}.png")
    words = ["train-autoencoder", str(tmp_path / "five"), "--out", str(tmp_path / "out"), "--size", "8", "--steps", "1"]
    assert cli.main([*words, "--channels", "1"]) == 2
    assert "expected at least 2 of each" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
