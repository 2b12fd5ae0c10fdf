"""`fpdm prepare`: what is given arrives. What it makes: tests/data/test_prepare.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fpdm.autoencoder.vae import VAE
from fpdm.cli import main
from fpdm.data.config import CacheSettings, DataConfig, HubSettings
from tests.autoencoders import tiny


class Done:
    def to_text(self) -> str:
        return "a cache"


@pytest.fixture
def autoencoder(tmp_path: Path) -> str:
    tiny(tmp_path / "vae")
    return str(tmp_path / "vae")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The arguments of `prepare`, which does nothing."""
    seen: list[SimpleNamespace] = []
    monkeypatch.setattr(
        "fpdm.data.prepare.prepare",
        lambda config, vae, out, cache, **named: (
            seen.append(SimpleNamespace(config=config, vae=vae, out=out, cache=cache, named=named)) or Done()
        ),
    )
    return seen


def test_every_option_arrives(calls: list[SimpleNamespace], autoencoder: str, tmp_path: Path) -> None:
    words = ["--autoencoder", autoencoder, "--out", str(tmp_path / "out"), "--device", "cpu", "--pad", "2"]
    words += ["--strict", "--batch-size", "7", "--workers", "3", "--size", "64", "--crop", "lanczos", "--flip-latents"]
    words += ["--shard-size", "9", "--label-column", "kind", "--data-root", "files"]
    words.remove("--flip-latents")
    assert main(["prepare", str(tmp_path / "photos"), *words]) == 0
    (call,) = calls
    assert call.config == DataConfig(str(tmp_path / "photos"), size=64, crop="lanczos")
    assert isinstance(call.vae, VAE)
    assert (call.vae.config.source, call.vae.config.pad) == (autoencoder, 2)
    assert (call.out, call.cache) == (tmp_path / "out", CacheSettings(shard_size=9))
    assert call.named == {
        "hub": HubSettings(label_column="kind"),
        "root": Path("files"),
        "batch_size": 7,
        "workers": 3,
        "strict": True,
    }


def test_what_is_not_given_keeps_its_default(
    calls: list[SimpleNamespace], autoencoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert main(["prepare", "photos", "--autoencoder", "vae", "--out", "out"]) == 0
    (call,) = calls
    assert call.config == DataConfig(str(tmp_path / "photos"), size=256, crop="adm")  # resumed from anywhere
    assert (call.vae.config.source, call.vae.config.pad) == (autoencoder, 0)
    assert (call.cache, call.named["hub"], call.named["strict"]) == (CacheSettings(), HubSettings(), False)


def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    calls: list[SimpleNamespace], autoencoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("fpdm.devices.default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("fpdm.devices.device_of", lambda name: asked.append(name) or torch.device("cpu"))
    monkeypatch.setenv("LOCAL_RANK", "3")
    for device in ([], ["--device", "cuda"], ["--device", "cuda:1"]):
        words = ["prepare", "digits", "--autoencoder", autoencoder, "--out", str(tmp_path / "out"), *device]
        assert main(words) == 0
    assert asked == ["cuda:3", "cuda:3", "cuda:1"]


def test_a_cache_within_its_images_is_refused(
    calls: list[SimpleNamespace], autoencoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    out = str(tmp_path / "photos" / "cache")
    assert main(["prepare", str(tmp_path / "photos"), "--autoencoder", autoencoder, "--out", out]) == 2
    assert "lies in the image folder" in capsys.readouterr().err
    assert main(["prepare", "digits", "--autoencoder", "", "--out", str(tmp_path / "out")]) == 2
    assert "--autoencoder is empty; expected a hub id or a folder" in capsys.readouterr().err
    assert not calls


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "abacus"], "device abacus cannot be used"),
        (["--device", "cuda:4096"], "device cuda:4096 cannot be used"),
        (["--device", "meta"], "device meta cannot be used"),
        (["--size", "64"], "--size is for image files; the images of digits"),
    ],
)
def test_options_that_cannot_be_met_are_the_users_mistake(
    words: list[str], message: str, autoencoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cache"
    code = main(["prepare", "digits", "--autoencoder", autoencoder, "--out", str(out), *words])
    printed = capsys.readouterr().err
    assert (code, printed.count("\n")) == (2, 1)
    assert message in printed
    assert not out.exists()
