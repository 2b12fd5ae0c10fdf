"""`fpdm import`: a folder that our commands take for a run, and that loads as the hub's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from fpdm import cli
from fpdm.data.loading import load_dataset
from fpdm.importing.foreign import read_foreign_checkpoint
from fpdm.importing.layouts import Hints, convert
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.run import load_run
from tests.importing import foreign_checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:.* does not say what it predicts")


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
    with pytest.raises(ValueError, match="does not record its training images; give images with --data"):
        load_dataset(run.recipe.data)

    loaded = DiffusionTransformer.from_pretrained(out, subfolder="transformer")
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
    for name in ("README.md", "model_index.json", "transformer/diffusion_pytorch_model.safetensors", "recipe.json"):
        (out / name).unlink()
    assert fpdm(*command) == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept
    for other in (("--prediction", "v"), ("--weights", "model", "--heads", 4)):
        assert fpdm(*command, *other) == 2
        assert f"{out} contains another model; choose another folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept


def test_an_autoencoder_of_another_kind_is_refused(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    for name, says in (
        (tmp_path / "vae", "holds a model of the class AutoencoderTiny, not an AutoencoderKL"),
        (tmp_path / "none", "does not exist; expected a folder or a name on the hub"),
        (tmp_path / "folder", "no config.json"),
    ):
        assert fpdm("import", file, "--out", tmp_path / "model", "--heads", 3, "--autoencoder", name) == 2
        assert says in capsys.readouterr().err.splitlines()[-1]
        assert not (tmp_path / "model").exists()
