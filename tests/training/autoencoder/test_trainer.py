"""Training an autoencoder: what a step minimises, and that a killed training ends as one never stopped."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fpdm.data.config import DataConfig
from fpdm.data.images import ImageSet
from fpdm.data.index_sampler import indices
from fpdm.errors import Interrupted, RunError
from fpdm.randomness import Stream, normal
from fpdm.runs.metrics_log import read_rows
from fpdm.runs.progress import Progress
from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from fpdm.training.autoencoder.trainer import AutoencoderTrainer
from fpdm.training.loop import StepResult
from tests.training.small import make_old, saved

SHAPE = AutoencoderShape(stage_channels=(4, 4), latent_channels=2, pad=1)
TRAIN = AutoencoderTrainConfig(steps=7, batch_size=4, warmup=2, checkpoint_every=3, log_every=2)


def recipe(**changes: object) -> AutoencoderRecipe:
    return AutoencoderRecipe(DataConfig("digits"), SHAPE, replace(TRAIN, **changes), images="abc")


def data(n: int = 10) -> ImageSet:
    rng = torch.Generator().manual_seed(1)
    return ImageSet("digits", torch.randint(0, 256, (n, 1, 4, 4), generator=rng).byte(), torch.zeros(n).long(), 1)


def train(out: Path, **changes: object) -> AutoencoderTrainer:
    trainer = AutoencoderTrainer(recipe(**changes), data(), out, device=torch.device("cpu"))
    trainer.train()
    return trainer


@pytest.mark.parametrize("reconstruction", ["l1", "l2"])
def test_a_step_descends_the_error_and_the_kl_of_latent_diffusion(tmp_path: Path, reconstruction: str) -> None:
    weight = 0.5
    changes = {"steps": 1, "warmup": 0, "decay": "constant", "reconstruction": reconstruction, "kl_weight": weight}
    trainer = AutoencoderTrainer(recipe(**changes, log_every=1), data(), tmp_path, device=torch.device("cpu"))
    x, _ = data().batch(indices(10, seed=0, first=0, count=4))  # (B, 1, 4, 4)
    with torch.no_grad():
        moments = trainer.model.quant_conv(trainer.model.encoder(F.pad(x, [1] * 4, value=-1.0)))  # (B, 4, 3, 3)
        mean, logvar = moments.chunk(2, dim=1)  # (B, 2, 3, 3) each
        noise = normal((2, 3, 3), seed=0, stream=Stream.TRAIN, indices=range(4))
        made = trainer.model.decode(mean + (logvar / 2).exp() * noise).sample[:, :, 1:-1, 1:-1]
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
    error = (made - x).abs() if reconstruction == "l1" else (made - x) ** 2
    trainer.train()
    (row,) = read_rows(tmp_path / "metrics.jsonl")
    assert row["error"] == pytest.approx(error.mean().item(), rel=1e-4)
    assert row["kl"] == pytest.approx(kl.item(), rel=1e-4)
    # Sums over an image, as in latent diffusion, over its 16 pixels.
    assert row["loss"] == pytest.approx((error.sum((1, 2, 3)).mean() + weight * kl).item() / 16, rel=1e-4)


def test_the_same_training_twice_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    train(tmp_path / "a")
    torch.manual_seed(2)
    train(tmp_path / "b")
    train(tmp_path / "c", seed=1)
    a, b, c = (saved(tmp_path / name, 7) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_a_killed_training_ends_as_one_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole")

    class Killed(BaseException):
        pass

    trainer = AutoencoderTrainer(recipe(), data(), tmp_path / "killed", device=torch.device("cpu"))
    step = trainer.step

    def dying(progress: Progress, *, measure: bool) -> StepResult:
        if progress.step == 5:
            raise Killed
        return step(progress, measure=measure)

    monkeypatch.setattr(trainer, "step", dying)
    with pytest.raises(Killed):
        trainer.train()
    resumed = train(tmp_path / "killed")
    assert resumed.resumed_at == 3
    whole, killed = saved(tmp_path / "whole", 7), saved(tmp_path / "killed", 7)
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    rows = [
        [
            {key: value for key, value in row.items() if "seconds" not in key}
            for row in read_rows(path / "metrics.jsonl")
        ]
        for path in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [2, 4, 6]


def test_a_signal_saves_and_the_same_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = AutoencoderTrainer(recipe(), data(), tmp_path, device=torch.device("cpu"))
    step = trainer.step

    def interrupted(progress: Progress, *, measure: bool) -> StepResult:
        if progress.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(progress, measure=measure)

    monkeypatch.setattr(trainer, "step", interrupted)
    with pytest.raises(Interrupted, match="SIGTERM at step 2"):
        trainer.train()
    assert train(tmp_path).resumed_at == 2
    assert train(tmp_path).resumed_at == 7


def test_the_averaged_weights_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    trainer = train(tmp_path)
    averaged = trainer.averaged().state_dict()
    own = trainer.model.state_dict()
    ema = {key.split(":")[1]: value for key, value in saved(tmp_path, 7).items() if key.startswith("ema/")}
    assert averaged.keys() == ema.keys()
    assert all(torch.equal(averaged[name], ema[name]) for name in ema)
    assert not all(torch.equal(averaged[name], own[name]) for name in own)


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(ValueError, match=r"a run of another recipe \(train.kl_weight: 1e-06 -> 0.5\)"):
        train(tmp_path, kl_weight=0.5)
    other = replace(recipe(), images="def")
    with pytest.raises(ValueError, match="images: abc -> def"):
        AutoencoderTrainer(other, data(), tmp_path, device=torch.device("cpu")).train()
    moved = replace(recipe(checkpoint_every=5), data=DataConfig(str(tmp_path / "elsewhere")))
    with pytest.warns(RuntimeWarning, match=r"same content in another place: data.source: digits -> .*elsewhere$"):
        AutoencoderTrainer(moved, data(), tmp_path, device=torch.device("cpu")).train()


def test_steps_without_a_finite_gradient_are_skipped_and_then_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = AutoencoderTrainer(recipe(steps=30), data(), tmp_path, device=torch.device("cpu"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    batch = trainer._batch
    monkeypatch.setattr(trainer, "_batch", lambda first: (batch(first)[0] * float("nan"), batch(first)[1]))
    with pytest.raises(RunError, match="10 steps in a row had no finite gradient"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path, content: str) -> None:
    name = "training.json" if content else "README.md"
    (tmp_path / name).write_text(content or "mine")
    with pytest.raises(ValueError, match=f"other files, such as {name}"):
        AutoencoderTrainer(recipe(), data(), tmp_path).train()
    assert (tmp_path / name).read_text() == (content or "mine")


def test_an_old_training_is_refused_if_unfinished_and_has_nothing_left_if_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "finished")
    make_old(tmp_path / "finished")
    assert train(tmp_path / "finished").resumed_at == 7
    trainer = AutoencoderTrainer(recipe(), data(), tmp_path / "unfinished", device=torch.device("cpu"))
    step = trainer.step

    def full(progress: Progress, *, measure: bool) -> StepResult:
        if progress.step == 5:
            raise OSError(28, "No space left on device")
        return step(progress, measure=measure)

    monkeypatch.setattr(trainer, "step", full)
    with pytest.raises(RunError, match="step-000000003"):
        trainer.train()
    make_old(tmp_path / "unfinished")
    with pytest.raises(ValueError, match=r"unfinished run of fpdm 0\.1\.0, .*; finish it with that version, or train"):
        train(tmp_path / "unfinished")
