import contextlib
import functools
import json
import math
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import fpdm.training.trainer as trainer_module
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import CheckpointError, Interrupted, RunError
from fpdm.files import lock
from fpdm.fixed_point.gradients import JacobianFree, unrolled
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, generator
from fpdm.runs import checkpoint
from fpdm.runs.progress import Progress
from fpdm.runs.run import load_run
from fpdm.runs.train_config import WarmStart
from fpdm.training.batch import Batch, make_batch
from fpdm.training.callbacks import TrainingLogger
from fpdm.training.loop import StepResult, TrainingLoop
from fpdm.training.trainer import Trainer, Weaker
from tests.training.small import SHAPE, data, make_old, recipe, saved


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss curve has tests of its own."""
    monkeypatch.setattr("fpdm.training.callbacks.save_loss_curve", lambda *_, **__: None)


def metrics(run: Path) -> list[dict[str, float]]:
    """The rows of a run, without what the clock says."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]


def test_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    Trainer(recipe(), data(), tmp_path / "whole").train()
    # 4 is no multiple of log_every's 2 x 3: a row's mean spans the stop.
    for steps in (3, 5, 7):
        Trainer(recipe(steps=steps), data(), tmp_path / "parts").train()
    whole, parts = saved(tmp_path / "whole", 7), saved(tmp_path / "parts", 7)
    assert whole.keys() == parts.keys()
    assert any(name.startswith("optimizer") for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    rows = metrics(tmp_path / "whole")
    assert len(rows) == 3
    assert rows == metrics(tmp_path / "parts")


def test_steps_after_the_last_checkpoint_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    Trainer(recipe(), data(), tmp_path / "whole").train()
    trainer, step = Trainer(recipe(), data(), tmp_path / "killed"), Trainer.step

    def dies_at_5(self: Trainer, progress: Progress, *, measure: bool) -> StepResult:
        if progress.step == 5:
            raise Killed
        return step(self, progress, measure=measure)

    monkeypatch.setattr(Trainer, "step", dies_at_5)
    with pytest.raises(Killed):
        trainer.train()
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()] == ["step-000000003"]
    Trainer(recipe(), data(), tmp_path / "killed").train()
    whole, killed = saved(tmp_path / "whole", 7), saved(tmp_path / "killed", 7)
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert len((tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "weaker",
    [
        {},
        {"weak_weight": 0.3},
        {"exit_weight": 0.3, "grad_weights": (0.0, 0.0, 1.0)},
        {"random_start": 0.5},
        {"random_start": 0.5, "weak_weight": 0.3},
    ],
)
def test_a_step_equals_plain_pytorch(tmp_path: Path, weaker: dict[str, Any]) -> None:
    """Two steps written out: data, v-MSE, clipping, warm-up, AdamW and the averaged weights."""
    settings = recipe(steps=2, clip_norm=0.05, grad_iters=3, **weaker)
    trainer = Trainer(settings, data(), tmp_path)
    model = DiffusionTransformer.from_shape(SHAPE)
    model.load_state_dict(trainer.model.state_dict())
    trainer.train()

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    averaged = [p.detach().clone() for p in model.parameters()]
    for step in range(2):
        batch = make_batch(
            data(), seed=0, first=5 * step, count=5, schedule=Schedule(), num_classes=3, label_dropout=0.1
        )
        abar = Schedule().alphas_bar[batch.t + 1].float().view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        x = abar.sqrt() * batch.x0 + (1 - abar).sqrt() * batch.eps  # (B, 1, 4, 4)
        v = abar.sqrt() * batch.eps - (1 - abar).sqrt() * batch.x0  # (B, 1, 4, 4)
        solver = settings.train.make_gradient().bind(0, step)
        z0 = None
        if "random_start" in weaker:
            draws = [generator(0, Stream.START, 5 * step + i) for i in range(5)]
            noise = np.stack([draw.standard_normal((SHAPE.tokens, SHAPE.width), np.float32) for draw in draws])
            z0 = 0.5 * torch.from_numpy(noise)  # (B, T, D)
        value = model(x, batch.t, batch.y, solver=solver, z0=z0).value
        loss = (value - v).square().mean()
        if "weak_weight" in weaker:  # the answer of a single iteration
            first = functools.partial(unrolled(1).solve, n=0, m=1)
            loss = loss + 0.3 * (model(x, batch.t, batch.y, solver=first).value - v).square().mean()
        if "exit_weight" in weaker:  # after one or two of the three iterations; in the second step half is learned
            jfb = settings.train.make_gradient()
            assert isinstance(jfb, JacobianFree)
            until = 1 + int(2 * generator(0, Stream.EXIT, 0, step).random())
            early = functools.partial(jfb.solve, n=jfb.draw(0, step)[0], m=until)
            answer = model(x, batch.t, batch.y, solver=early).value
            errors = (answer - v).square().mean(), (answer - value.detach()).square().mean()
            loss = loss + 0.3 * (errors[0] if step == 0 else (errors[0] + errors[1]) / 2)
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
        assert norm > 0.05  # so that clipping is seen
        for p in model.parameters():
            p.grad *= 0.05 / norm
        optimizer.param_groups[0]["lr"] = 1e-2 * (step + 1) / 4
        optimizer.step()
        decay = 0.0 if step == 0 else (1 + step) / (10 + step)  # diffusers' warm-up; its first step copies
        averaged = [decay * a + (1 - decay) * p.detach() for a, p in zip(averaged, model.parameters(), strict=True)]
    for name, p in trainer.model.named_parameters():
        torch.testing.assert_close(p, dict(model.named_parameters())[name], rtol=1e-4, atol=1e-5)
    for a, b in zip(trainer.ema.shadow_params, averaged, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("no_grad", "gradient", "start"), [(0, "unrolled", 0.0), (2, "multistep", 0.0), (0, "unrolled", 1.0)]
)
@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, injection="linear"), as_dit(SHAPE, 4)])
def test_the_weaker_answers_compute_is_counted(
    tmp_path: Path, shape: TransformerConfig, no_grad: int, gradient: str, start: float
) -> None:
    shape = replace(shape, width=192)  # what comes first passes no gradient on, which would count here
    start = start if shape.middle_kind == "fixed_point" else 0.0
    settings = replace(
        recipe(gradient=gradient, no_grad_iters=no_grad, weak_weight=0.3, random_start=start), model=shape
    )
    trainer = Trainer(settings, data(), tmp_path)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        told = trainer.step(Progress()).macs
    assert 0.9 * told < counter.get_total_flops() / 2 <= told
    own = {"mlp": 1 if no_grad or start else 0, "linear": 0}[shape.injection]
    plain = replace(settings, train=replace(settings.train, weak_weight=0.0))
    without = Trainer(plain, data(), tmp_path).step(Progress()).macs
    cost = trainer.cost
    assert told - without == 5 * 3 * cost.weak_macs(own if cost.middle.adjustable else 0)


@pytest.mark.parametrize(("grad_iters", "count"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("shape", [SHAPE, as_dit(SHAPE, 4)])
def test_the_compute_of_an_early_exit_is_counted(
    tmp_path: Path, shape: TransformerConfig, grad_iters: int, count: int
) -> None:
    settings = recipe(grad_iters=2, grad_weights=(2 - grad_iters, grad_iters - 1), exit_weight=0.0)
    settings = replace(settings, model=replace(shape, width=192))
    trainer = Trainer(settings, data(), tmp_path)
    without = trainer.step(Progress()).macs
    stack = not trainer.cost.middle.adjustable
    if not (count or stack):
        with pytest.raises(ValueError, match=r"exit_weight is 0\.3, but no step has an early exit"):
            replace(settings, train=replace(settings.train, exit_weight=0.3))
        return
    exits = Trainer(replace(settings, train=replace(settings.train, exit_weight=0.3)), data(), tmp_path)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        told = exits.step(Progress()).macs
    assert 0.9 * told < counter.get_total_flops() / 2 <= told
    assert told - without == 5 * 3 * trainer.cost.answer


@pytest.mark.parametrize("accumulate", [2, 3, 6])
@pytest.mark.parametrize("gradient", ["stochastic", "implicit"])
def test_accumulated_gradient_is_that_of_the_whole_batch(tmp_path: Path, accumulate: int, gradient: str) -> None:
    """In float64: the gradient itself, since Adam would magnify the rounding of what is all but 0."""

    def gradients(accumulate: int) -> dict[str, torch.Tensor]:
        settings = recipe(batch_size=12, accumulate=accumulate, gradient=gradient)
        trainer = Trainer(settings, data(), tmp_path)
        trainer.model.double()
        # Away from the start, where the last layer is 0 and nothing flows through it.
        rng = torch.Generator().manual_seed(0)
        for p in trainer.model.parameters():
            p.data += 0.1 * torch.randn(p.shape, generator=rng, dtype=p.dtype)
        solver = trainer.gradient.bind(0, 3)
        for part in range(accumulate):
            count = 12 // accumulate
            trainer._backward(part * count, count, solver, Weaker(None, None, 0.0), last=part + 1 == accumulate)
        return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}

    whole, parts = gradients(1), gradients(accumulate)
    assert whole.keys() == parts.keys()
    assert all(value.any() for name, value in whole.items() if name.endswith("weight"))
    for name, value in whole.items():
        assert (parts[name] - value).norm() <= 1e-6 * value.norm(), name


def test_accumulated_run_is_the_whole_one_up_to_rounding(tmp_path: Path) -> None:
    for accumulate in (1, 3):
        Trainer(recipe(batch_size=6, accumulate=accumulate), data(), tmp_path / str(accumulate)).train()
    rows = zip(metrics(tmp_path / "1"), metrics(tmp_path / "3"), strict=True)
    assert all(part == pytest.approx(whole, rel=1e-3) for whole, part in rows)
    # What is drawn and counted is the same to the bit.
    for whole, part in zip(metrics(tmp_path / "1"), metrics(tmp_path / "3"), strict=True):
        assert [whole[key] for key in ("step", "macs", "iterations")] == [
            part[key] for key in ("step", "macs", "iterations")
        ]


def test_processes_exchange_gradients_with_the_last_micro_batch_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, apart = Trainer(recipe(batch_size=6, accumulate=3), data(), tmp_path), []
    monkeypatch.setattr(trainer.accelerator, "no_sync", lambda net: apart.append(net) or contextlib.nullcontext())
    trainer.loop.step()
    assert apart == [trainer.net] * 2


def test_nan_in_one_micro_batch_skips_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, make = Trainer(recipe(batch_size=6, accumulate=3), data(), tmp_path), trainer_module.make_batch
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}

    def second_is_bad(*args: object, first: int, **rest: object) -> Batch:
        batch = make(*args, first=first, **rest)
        return batch._replace(x0=batch.x0 * (math.nan if first == 2 else 1.0))

    monkeypatch.setattr(trainer_module, "make_batch", second_is_bad)
    found = trainer.loop.step(measure=True)
    assert all(torch.equal(before[name], p) for name, p in trainer.model.named_parameters())
    assert trainer.progress.skipped == 1
    assert math.isnan(found.metrics["residual"])


def test_batch_that_does_not_divide(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size 5 .* accumulate 2; expected a multiple of 2"):
        Trainer(recipe(accumulate=2), data(), tmp_path)


def test_only_steps_count_as_training_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves 1 s in a step, 100 s while something is shown, and 1000 s in a save."""
    now = 0.0

    def taking(seconds: float, method: Callable[..., object]) -> Callable[..., object]:
        def timed(*args: object, **kwargs: object) -> object:
            nonlocal now
            now += seconds
            return method(*args, **kwargs)

        return timed

    monkeypatch.setattr("fpdm.training.timer.time.monotonic", lambda: now)
    monkeypatch.setattr(Trainer, "step", taking(1.0, Trainer.step))
    monkeypatch.setattr(TrainingLoop, "save", taking(1000.0, TrainingLoop.save))
    monkeypatch.setattr(TrainingLogger, "on_step_end", taking(100.0, TrainingLogger.on_step_end))
    assert Trainer(recipe(steps=0, seconds=6.5), data(), tmp_path).train().seconds == 7.0
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["seconds_per_step"] for row in rows] == [1.0, 1.0, 1.0]


def test_unconditional_model_trains(tmp_path: Path) -> None:
    settings = replace(recipe(steps=1), model=replace(SHAPE, num_classes=0))
    assert Trainer(settings, data(), tmp_path).train().step == 1


@pytest.mark.parametrize(
    "shape",
    [SHAPE, as_dit(SHAPE, 3), replace(SHAPE, learn_variance=True, middle_blocks=2, injection="linear")],
    ids=["fpdm", "dit", "variance"],
)
def test_loss_falls(tmp_path: Path, shape: object) -> None:
    settings = replace(recipe(steps=120, batch_size=16, log_every=30, warmup=5), model=shape)
    Trainer(settings, data(3), tmp_path).train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["mse"] < 0.7 * rows[0]["mse"]


def test_step_without_finite_gradient_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(recipe(steps=2), data(), tmp_path)
    make = trainer_module.make_batch
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}

    def first_is_bad(*args: object, first: int, **rest: object) -> Batch:
        batch = make(*args, first=first, **rest)
        return batch._replace(x0=batch.x0 * (math.nan if first == 0 else 1.0))

    monkeypatch.setattr(trainer_module, "make_batch", first_is_bad)
    trainer.loop.step()
    assert all(torch.equal(before[name], p) for name, p in trainer.model.named_parameters())
    trainer.loop.step()
    assert not all(torch.equal(before[name], p) for name, p in trainer.model.named_parameters())
    assert (trainer.progress.step, trainer.progress.skipped, trainer.progress.skipped_in_a_row) == (2, 1, 0)


def test_divergence_ends_the_run_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = trainer_module.make_batch

    def bad_from_15(*args: object, first: int, **rest: object) -> Batch:
        batch = make(*args, first=first, **rest)
        return batch._replace(eps=batch.eps * (math.inf if first >= 15 else 1.0))

    monkeypatch.setattr(trainer_module, "make_batch", bad_from_15)
    with pytest.raises(RunError, match=r"10 steps in a row .* residual of the fixed point nan\); .*step-000000012"):
        Trainer(recipe(steps=20), data(), tmp_path).train()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_saves_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    step = Trainer.step

    def signalled(self: Trainer, progress: Progress, *, measure: bool) -> StepResult:
        result = step(self, progress, measure=measure)
        if progress.step == 1:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(Trainer, "step", signalled)
    with pytest.raises(Interrupted) as caught:
        Trainer(recipe(), data(), tmp_path).train()
    assert caught.value.exit_code == 128 + number
    assert load_run(tmp_path).progress.step == 2


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    first, second = Trainer(recipe(), data(), tmp_path), Trainer(recipe(), data(), tmp_path)
    with lock(tmp_path), pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
        ThreadPoolExecutor(1).submit(second.train).result()  # a thread is as foreign to a lock as a process
    first.train()
    # The second begins where the first has ended, not where it was when the second was made.
    assert second.train().step == 7
    assert second.resumed_at == 7
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_folder_of_a_run_that_died_is_taken_over_with_a_word(tmp_path: Path) -> None:
    (tmp_path / ".holder").write_text("process 4711")
    with pytest.warns(RuntimeWarning, match="held by process 4711, which is gone"):
        assert Trainer(recipe(), data(), tmp_path).train().step == 7


def test_changed_settings_are_refused_on_resume(tmp_path: Path) -> None:
    Trainer(recipe(), data(), tmp_path).train()
    with pytest.raises(ValueError, match=r"train.batch_size: 5 -> 6; train.learning_rate: 0.01 -> 0.02"):
        Trainer(recipe(batch_size=6, learning_rate=0.02), data(), tmp_path).train()


def test_finished_run_has_nothing_left(tmp_path: Path) -> None:
    Trainer(recipe(), data(), tmp_path).train()
    before = saved(tmp_path, 7)
    again = Trainer(recipe(), data(), tmp_path)
    assert again.train().step == again.resumed_at == 7
    assert all(torch.equal(before[name], value) for name, value in saved(tmp_path, 7).items())


def test_data_that_does_not_fit_the_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 4\), but the model takes \(1, 8, 8\)"):
        Trainer(replace(recipe(), model=replace(SHAPE, image_size=8)), data(), tmp_path)
    with pytest.raises(ValueError, match="3 classes, but the model has 7"):
        Trainer(replace(recipe(), model=replace(SHAPE, num_classes=7)), data(), tmp_path)


def test_validation_images_that_do_not_fit_the_model(tmp_path: Path) -> None:
    other = replace(data(), num_classes=4)
    with pytest.raises(ValueError, match="4 classes, but the model has 3"):
        Trainer(recipe(), data(), tmp_path, validation=other)


def test_load_run_gives_the_averaged_weights(tmp_path: Path) -> None:
    trainer = Trainer(recipe(), data(), tmp_path)
    with pytest.raises(ValueError, match="no run with a checkpoint"):
        load_run(tmp_path)
    trainer.train()
    run = load_run(tmp_path)
    for a, b in zip(run.model.parameters(), trainer.ema.shadow_params, strict=True):
        assert torch.equal(a, b)
    assert run.recipe == recipe()
    # The same folder is one of diffusers'.
    folder = tmp_path / "checkpoints" / "step-000000007" / "ema"
    again = DiffusionTransformer.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), run.model.parameters(), strict=True))


def test_full_disk_is_reported_with_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def full(root: Path, step: int, *rest: object) -> Path:
        if step > 3:
            raise OSError(28, "No space left on device")
        return save(root, step, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(RunError, match=r"cannot save step 6: .*No space left.*step-000000003"):
        Trainer(recipe(), data(), tmp_path).train()


def test_nan_weights_are_not_saved(tmp_path: Path) -> None:
    trainer = Trainer(recipe(), data(), tmp_path)
    trainer.model.head.linear.bias.data[0] = math.nan
    with pytest.raises(CheckpointError, match=r"nan or inf in head.linear.bias"):
        trainer.loop.save()


def test_a_resumed_run_is_held_to_its_checkpoints_recipe(tmp_path: Path) -> None:
    Trainer(recipe(), data(), tmp_path).train()
    (tmp_path / "recipe.json").unlink()
    changed = recipe(learning_rate=0.5)
    with pytest.raises(ValueError, match=r"train.learning_rate: 0.01 -> 0.5"):
        Trainer(changed, data(), tmp_path).train()
    (tmp_path / "recipe.json").write_text("")  # of a power cut, say
    assert Trainer(recipe(), data(), tmp_path).train().step == 7
    assert (tmp_path / "recipe.json").read_text()


def test_what_killed_saves_left_is_gone_when_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".writing-abc").mkdir(parents=True)
    Trainer(recipe(), data(), tmp_path).loop.resume()
    assert not [*(tmp_path / "checkpoints").iterdir()]


def test_accumulation_by_the_launcher_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match="give fpdm train --accumulate 4"):
        Trainer(recipe(), data(), tmp_path)


def test_unfinished_run_of_the_old_order_is_refused_and_says_which_version_finishes_it(tmp_path: Path) -> None:
    Trainer(recipe(steps=5), data(), tmp_path).train()
    make_old(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"unfinished run of fpdm 0\.1\.0, .*; finish it with that version, or train"
    ) as said:
        Trainer(recipe(steps=7), data(), tmp_path).train()
    assert "\n" not in str(said.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_finished_run_of_the_old_order_has_nothing_left_and_can_be_used(tmp_path: Path) -> None:
    trainer = Trainer(recipe(), data(), tmp_path / "old")
    trainer.train()
    make_old(tmp_path / "old")
    again = Trainer(recipe(), data(), tmp_path / "old")
    assert again.train().step == again.resumed_at == 7
    run = load_run(tmp_path / "old")
    for a, b in zip(run.model.parameters(), trainer.ema.shadow_params, strict=True):
        assert torch.equal(a, b)
    start = WarmStart(init_from=str(tmp_path / "old"))
    warm = Trainer(replace(recipe(), start=start), data(), tmp_path / "warm")
    assert all(torch.equal(a, b) for a, b in zip(warm.model.parameters(), run.model.parameters(), strict=True))
