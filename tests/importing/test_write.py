"""`fpdm import`: a folder that our commands take for a run, and that loads as the hub's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from fpdm import cli
from fpdm.data.loading import load_dataset
from fpdm.importing.foreign import read_foreign_checkpoint
from fpdm.importing.layouts import Hints, convert
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.run import load_run
from tests.importing import foreign_checkpoints
from tests.oracle import authors

PIXELS = authors.Size(width=24, heads=3, patch=4, side=8, channels=1, out=2, classes=5, mlp=96)


def fpdm(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    args = {"vae": "mse", "lr": 2e-4, "global_batch_size": 64, "fixed_point_no_grad_max_iters": 5}
    return foreign_checkpoints.save(
        tmp_path / "DiT-tiny.pt",
        foreign_checkpoints.training_checkpoint(foreign_checkpoints.dit(3), foreign_checkpoints.namespace(**args)),
    )


def test_an_imported_model_is_a_run_and_a_model_of_the_hub(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    assert fpdm("import", file, "--out", out, "--heads", 3, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (said["layout"], said["sha256"], said["out"]) == ("DiT", sha256, str(out))
    want = convert(read_foreign_checkpoint(str(file)), Hints(heads=3))

    run = load_run(out)
    assert run.recipe.name == "DiT-tiny"
    assert run.recipe.model == want.shape
    assert run.recipe.schedule == want.schedule
    assert run.recipe.autoencoder.source == "stabilityai/sd-vae-ft-mse"
    train = run.recipe.train
    assert (train.learning_rate, train.batch_size, train.no_grad_iters) == (2e-4, 64, 5)
    assert run.progress.step == 7000
    with pytest.raises(ValueError, match="nobody knows what an imported model was trained on; say with --data"):
        load_dataset(run.recipe.data)

    loaded = DiffusionTransformer.from_pretrained(out)
    for model in (run.model, loaded):
        state = model.state_dict()
        assert state.keys() == want.weights.keys()
        assert all(torch.equal(state[name], want.weights[name]) for name in state)
    card = (out / "README.md").read_text()
    assert all(word in card for word in (str(file), sha256, "epsilon", "guides three of four", "sd-vae-ft-mse"))


def test_the_same_import_again_finishes_and_another_is_refused(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    command = ("import", file, "--out", out, "--heads", 3)
    assert fpdm(*command) == 0
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for name in ("README.md", "config.json", "diffusion_pytorch_model.safetensors", "recipe.json"):
        (out / name).unlink()
    assert fpdm(*command) == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept
    for other in (("--prediction", "v"), ("--weights", "model", "--heads", 4)):
        assert fpdm(*command, *other) == 2
        assert f"{out} contains another model; choose another folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept


def test_mistakes_leave_nothing(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    for words, says in (
        ((tmp_path / "none.pt",), "does not exist"),
        ((file,), "give --heads"),
        ((file, "--heads", 3, "--prediction", "x0"), "expected one of v, epsilon"),
        ((file, "--heads", 3, "--prediction", "epsilon", "--zero-terminal-snr"), "epsilon"),
    ):
        assert fpdm("import", *words, "--out", out) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
        assert not out.exists()


def test_an_imported_model_of_pixels_is_sampled_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = foreign_checkpoints.save(tmp_path / "a.pt", foreign_checkpoints.dit(3, PIXELS))
    assert fpdm("import", file, "--out", tmp_path / "model", "--heads", 3) == 0
    assert "latents" not in capsys.readouterr().out
    for sampler in ("ddim", "ddpm"):
        words = ("--budget", 9, "--sampler", sampler, "--guidance", 2, "--num-images", 2)
        assert fpdm("sample", tmp_path / "model", "--out", tmp_path / sampler, *words) == 0
        with Image.open(tmp_path / sampler / "000001.png") as image:
            assert image.size == (8, 8)
