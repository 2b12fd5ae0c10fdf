import shutil
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import fpdm.training.callbacks as callbacks
from fpdm.autoencoder.interface import Pixels
from fpdm.data.images import ImageSet
from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import RunError
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.metrics_log import read_rows
from fpdm.runs.progress import Progress
from fpdm.runs.run import load_run
from fpdm.sampling.plan import Plan
from fpdm.training.loop import StepResult, TrainingLoop
from fpdm.training.samples import few_samples, side_by_side
from fpdm.training.tracker import TENSORBOARD
from fpdm.training.trainer import Trainer
from fpdm.training.validation import evaluate_loss
from tests.training.small import SHAPE, data, recipe, saved

SHOWING = {"validate_every": 2, "sample_every": 3, "tracker": "tensorboard"}


def watched() -> ImageSet:
    return replace(data(5), images=255 - data(5).images)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seven steps that shows all it can."""
    out = tmp_path_factory.mktemp("shown")
    Trainer(recipe(**SHOWING), data(), out, validation=watched()).train()
    return out


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / TENSORBOARD)).Reload()


def curve(run: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in events(run).Scalars(name)]


def test_training_is_the_same_bit_for_bit_without_it(shown: Path, tmp_path: Path) -> None:
    silent = recipe(validate_every=0)
    Trainer(silent, data(), tmp_path, validation=watched()).train()
    with_it, without = saved(shown, 7), saved(tmp_path, 7)
    assert all(torch.equal(with_it[name], value) for name, value in without.items())
    rows = [
        [{key: value for key, value in row.items() if "seconds" not in key} for row in read_rows(run / "metrics.jsonl")]
        for run in (shown, tmp_path)
    ]
    assert rows[0] == rows[1]
    assert {path.name for path in tmp_path.iterdir()} - {".lock", ".fpdm.json"} == {
        *("README.md", "checkpoints", "loss.png", "metrics.jsonl", "recipe.json"),
        *("model_index.json", "pipeline.py", "sampling.json", "scheduler", "transformer"),
    }


def test_it_shows_when_it_should_and_at_the_end(shown: Path) -> None:
    assert [row["step"] for row in read_rows(shown / "validation.jsonl")] == [2, 4, 6, 7]
    assert sorted(path.name for path in (shown / "samples").iterdir()) == [
        f"step-00000000{step}.png" for step in (3, 6, 7)
    ]
    Image.open(shown / "loss.png").verify()


def test_validation_loss_is_that_of_the_averaged_weights(shown: Path) -> None:
    last = read_rows(shown / "validation.jsonl")[-1]
    found = evaluate_loss(load_run(shown).model, Schedule(), Objective(), watched())
    assert last["by_timestep"] == [list(row) for row in found]
    assert last["loss"] == pytest.approx(np.mean([row.loss for row in found]))


def test_samples_are_of_the_averaged_weights_and_of_the_raw(shown: Path) -> None:
    picture = np.asarray(Image.open(shown / "samples" / "step-000000007.png"))  # (h, w, 3)
    raw = DiffusionTransformer.from_pretrained(shown / "checkpoints" / "step-000000007" / "model")
    models, cpu = (load_run(shown).model, raw), torch.device("cpu")
    plan = Plan(140, 2)  # up to 4 iterations in training, and 2.5 in the mean
    drawn = [few_samples(model, Schedule(), Pixels(), plan, seed=0, device=cpu) for model in models]
    assert not torch.equal(*drawn)
    assert np.array_equal(picture, side_by_side(*drawn))
    # The names above them, without which nobody knows which is which, and four rows of four.
    assert picture.shape == (16 + 4 * 64 + 3 * 2, 2 * (4 * 64 + 3 * 2) + 8, 3)


def test_tensorboard_has_the_rows_and_the_pictures(shown: Path) -> None:
    rows = read_rows(shown / "metrics.jsonl")
    for name in ("loss", "mse", "grad_norm", "iterations", "residual", "learning_rate", "seconds_per_step"):
        assert curve(shown, f"train/{name}") == [(row["step"], row[name]) for row in rows], name
    rows = read_rows(shown / "validation.jsonl")
    assert curve(shown, "validation/loss") == [(row["step"], row["loss"]) for row in rows]
    assert curve(shown, "validation/timestep_950") == [(row["step"], row["by_timestep"][-1][1]) for row in rows]
    assert [event.step for event in events(shown).Images("samples")] == [3, 6, 7]


def test_the_curve_that_a_killed_call_did_not_draw_is_drawn(shown: Path, tmp_path: Path) -> None:
    shutil.copytree(shown, tmp_path / "run")
    (tmp_path / "run" / "loss.png").write_bytes(b"of an earlier checkpoint")
    Trainer(recipe(**SHOWING), data(), tmp_path / "run", validation=watched()).train()
    assert (tmp_path / "run" / "loss.png").read_bytes() == (shown / "loss.png").read_bytes()


def test_killed_and_resumed_run_shows_what_one_that_was_never_stopped_shows(
    shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    step = Trainer.step

    def dies_at_6(self: Trainer, progress: Progress, *, measure: bool) -> StepResult:
        if progress.step == 6:
            raise Killed
        return step(self, progress, measure=measure)

    def save_3_only(self: TrainingLoop) -> None:
        if self.progress.step == 3:
            save(self)

    save = TrainingLoop.save
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", dies_at_6)
        patched.setattr(TrainingLoop, "save", save_3_only)
        with pytest.raises(Killed):
            Trainer(recipe(**SHOWING), data(), tmp_path, validation=watched()).train()
    later = tmp_path / "samples" / "step-000000006.png"
    later.write_bytes(b"of the run that was killed")
    Trainer(recipe(**SHOWING), data(), tmp_path, validation=watched()).train()
    assert read_rows(tmp_path / "validation.jsonl") == read_rows(shown / "validation.jsonl")
    assert later.read_bytes() == (shown / "samples" / later.name).read_bytes()
    for name in ("train/loss", "validation/loss"):
        assert [e.step for e in events(tmp_path).Scalars(name)] == [e.step for e in events(shown).Scalars(name)], name
    assert [event.step for event in events(tmp_path).Images("samples")] == [3, 6, 7]


def test_finished_run_is_left_as_it_is(shown: Path) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_size for path in shown.rglob("*") if path.is_file()}

    before = state()
    Trainer(recipe(**SHOWING), data(), shown, validation=watched()).train()
    assert state() == before


def test_what_is_shown_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    Trainer(recipe(steps=3), data(), tmp_path).train()
    Trainer(recipe(**SHOWING), data(), tmp_path, validation=watched()).train()
    with pytest.raises(ValueError, match=r"train\.warmup: 4 -> 5"):
        Trainer(recipe(warmup=5), data(), tmp_path).train()


def test_weights_are_put_back_when_showing_them_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(recipe(), data(), tmp_path, validation=watched())
    trainer.train()
    raw = [p.detach().clone() for p in trainer.model.parameters()]

    def fails(model: DiffusionTransformer, *_: object, **__: object) -> None:
        assert all(torch.equal(*pair) for pair in zip(model.parameters(), trainer.ema.shadow_params, strict=True))
        assert not model.training
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(callbacks, "evaluate_loss", fails)
    with pytest.raises(OSError, match="No space left"):
        trainer.logger.run_validation(1000)
    assert all(torch.equal(*pair) for pair in zip(trainer.model.parameters(), raw, strict=True))
    assert trainer.model.training


def test_samples_that_are_not_finite_do_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(*_: object, **__: object) -> None:
        raise RunError("the samples are nan or inf")

    monkeypatch.setattr(callbacks, "few_samples", diverged)
    with pytest.warns(RuntimeWarning, match="no samples at step 7: the samples are nan"):
        assert Trainer(recipe(sample_every=100), data(), tmp_path).train().step == 7
    assert not (tmp_path / "samples").exists()


def test_latents_are_not_sampled_and_that_is_said_once(tmp_path: Path) -> None:
    images = ImageSet("latents", data().images.expand(-1, 4, -1, -1).contiguous(), data().labels, 3)
    settings = replace(recipe(sample_every=2), model=replace(SHAPE, in_channels=4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(settings, images, tmp_path).train()
    said = [str(warning.message) for warning in caught if "samples" in str(warning.message)]
    assert len(said) == 1
    assert "the model makes 4 channels; expected 1 (grey) or 3 (RGB), or the autoencoder of its latents" in said[0]
    assert not (tmp_path / "samples").exists()


def test_samples_by_the_clock_come_after_a_while_and_then_more_seldom() -> None:
    times = np.arange(0, 1000, 7.0)
    due = [now for before, now in pairwise(times) if callbacks._doubled(before, now, 60.0)]
    assert due == [63, 126, 245, 483, 966]  # the first steps after 60, 120, 240, 480 and 960 seconds
    assert not any(callbacks._doubled(before, now, 0.0) for before, now in pairwise(times))
    assert callbacks._doubled(10.0, 500.0, 60.0)  # one step may be longer than all of it


def test_samples_of_a_run_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fpdm.training.timer.StepTimer.stop", lambda _: 1.0)  # each step takes a second
    settings = recipe(steps=0, seconds=9.0, sample_every=0, sample_after=2.0, validate_every=0)
    Trainer(settings, data(), tmp_path).train()
    made = sorted(int(path.stem.removeprefix("step-")) for path in (tmp_path / "samples").iterdir())
    assert made == [2, 4, 8, 9]
