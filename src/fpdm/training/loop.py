"""The training loop, on accelerate: one process or many, resumed bit-exactly by the same call."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from fpdm.data import ImageSet, indices
from fpdm.diffusion import Schedule
from fpdm.errors import CheckpointError, Interrupted, RunError
from fpdm.files import write_atomically
from fpdm.fixed_point import mean_iterations
from fpdm.models import DiffusionTransformer
from fpdm.randomness import Stream, generator
from fpdm.training import checkpoint
from fpdm.training.config import Recipe, differences

RECIPE = "recipe.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' name
MODEL, EMA, OPTIMIZER = f"model/{WEIGHTS}", f"ema/{WEIGHTS}", "optimizer.safetensors"
MAX_SKIPPED = 10  # steps in a row without a finite gradient, after which the run ends


class Batch(NamedTuple):
    """One step's training data.

    Attributes:
        x0: Clean images in [-1, 1], (B, C, H, W).
        eps: Noise, (B, C, H, W).
        t: Timesteps, (B,).
        y: Labels, some of them "no class", (B,).
    """

    x0: Tensor
    eps: Tensor
    t: Tensor
    y: Tensor


def make_batch(
    data: ImageSet, *, seed: int, first: int, count: int, schedule: Schedule, num_classes: int, label_dropout: float
) -> Batch:
    """The training data at global positions `first` .. `first + count - 1`.

    Which image, timestep, noise and label a position gets is a function of (seed, position): not of batch size, number
    of processes, or where the run was resumed.
    """
    x0, y = data.batch(indices(len(data), seed=seed, first=first, count=count))  # (B, C, H, W), (B,)
    t, drop, eps = np.empty(count, np.int64), np.empty(count), np.empty(x0.shape, np.float32)
    for i in range(count):
        rng = generator(seed, Stream.TRAIN, first + i)
        t[i], drop[i] = rng.integers(schedule.num_timesteps), rng.random()
        rng.standard_normal(out=eps[i], dtype=np.float32)
    dropped = torch.from_numpy(drop < label_dropout)  # (B,)
    y = torch.where(dropped, num_classes, y) if num_classes else torch.zeros_like(y)  # (B,)
    return Batch(x0, torch.from_numpy(eps), torch.from_numpy(t), y)


@dataclass(frozen=True)
class Progress:
    """How far a run has come; saved with every checkpoint.

    Attributes:
        step: Optimiser steps done, skipped ones included.
        seconds: Seconds of training.
        macs: Multiply-accumulates of training, over all processes.
        skipped: Steps without a finite gradient.
        skipped_in_a_row: Those at the end.
    """

    step: int = 0
    seconds: float = 0.0
    macs: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0


class Trainer:
    """Trains a recipe in a folder. Everything that a checkpoint holds is here.

    Args:
        recipe: What to train.
        data: The training images.
        out: The run's folder; an interrupted run in it is resumed.

    Attributes:
        progress: How far the run has come.
        resumed_at: The step that `train` began with.

    Raises:
        ValueError: The data does not fit the model, or the batch the processes.
    """

    def __init__(self, recipe: Recipe, data: ImageSet, out: Path) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        self._check_data()
        config = recipe.train
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        if config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size {config.batch_size} does not divide among {self.accelerator.num_processes} processes"
            )
        self.gradient, self.objective = config.make_gradient(), config.make_objective()
        set_seed(config.seed)
        self.model = DiffusionTransformer.from_shape(recipe.model)
        self.cost = self.model.cost()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.ema = EMAModel(self.model.parameters(), decay=config.ema_decay)
        self.progress, self.resumed_at = Progress(), 0
        self.window: list[dict[str, float]] = []  # the steps since the last row of metrics
        self.net, self.stepper = self.accelerator.prepare(self.model, self.optimizer)
        self.ema.to(self.accelerator.device)

    def train(self) -> Progress:
        """Train to the recipe's end; nothing is done if the run is there already.

        Raises:
            ValueError: Another process holds the folder, or it holds a run of another recipe.
            CheckpointError: All checkpoints are damaged, or the newest whole one does not fit.
            Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
            RunError: The gradient stayed without a finite value, or the disk is full.
        """
        with self._hold():
            self._resume()
            try:
                self._run()
            except OSError as error:
                raise RunError(
                    f"cannot save step {self.progress.step}: {error}; last good checkpoint: {self._last_checkpoint()}"
                ) from error
        return self.progress

    def _run(self) -> None:
        with self._signals() as received, self._bar() as bar:
            start = time.monotonic() - self.progress.seconds
            while not self._done():
                due = (self.progress.step + 1) % self.recipe.train.log_every == 0
                self.window.append(self._step(measure=due))
                self.progress = replace(self.progress, seconds=time.monotonic() - start)
                if due:
                    self._log()
                    bar.set_postfix_str(self._postfix())
                    self.window.clear()
                bar.update(1)
                every = self.recipe.train.checkpoint_every
                if every and self.progress.step % every == 0:
                    self._save()
                if self._any(bool(received)):
                    self._save()
                    number = received[0] if received else signal.SIGTERM
                    raise Interrupted(
                        f"stopped by {signal.Signals(number).name} at step {self.progress.step}; a checkpoint is "
                        "saved, and the same command goes on from it",
                        number,
                    )
            self._save()

    def _step(self, *, measure: bool) -> dict[str, float]:
        config, step = self.recipe.train, self.progress.step
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        count = config.batch_size // processes
        batch = make_batch(
            self.data,
            seed=config.seed,
            first=step * config.batch_size + rank * count,
            count=count,
            schedule=self.recipe.schedule,
            num_classes=self.recipe.model.num_classes,
            label_dropout=config.label_dropout,
        )
        x0, eps, t, y = (tensor.to(self.accelerator.device) for tensor in batch)
        x = self.recipe.schedule.add_noise(x0, eps, t)  # (B, C, H, W)
        with self.accelerator.autocast():
            measure = measure or self.progress.skipped_in_a_row > 0  # in trouble: say how large the residual is
            prediction = self.net(x, t, y, solver=self.gradient.bind(config.seed, step, measure=measure))
        loss = self.objective.loss(self.recipe.schedule, prediction.value, prediction.variance, x, x0, eps, t)
        self.accelerator.backward(loss.total.mean())
        # The norm is of the gradient averaged over the processes: they all skip, or none does.
        norm = torch.as_tensor(self.accelerator.clip_grad_norm_(self.net.parameters(), config.clip_norm)).item()
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(config.warmup, 1))
        finite = bool(np.isfinite(norm))
        if finite or self.accelerator.scaler is not None:
            # A scaler of fp16 gradients leaves the weights alone by itself, and learns from it.
            self.stepper.step()
        if finite:
            self.ema.step(self.model.parameters())
        self.stepper.zero_grad()
        solution = prediction.solution
        iterations = mean_iterations(solution.iters)
        macs = self.cost.training_macs(iterations, mean_iterations(solution.no_grad_iters))
        self.progress = replace(
            self.progress,
            step=step + 1,
            macs=self.progress.macs + config.batch_size * macs,
            skipped=self.progress.skipped + (not finite),
            skipped_in_a_row=0 if finite else self.progress.skipped_in_a_row + 1,
        )
        residual = float("nan") if solution.residual is None else solution.residual.max().item()
        if self.progress.skipped_in_a_row >= MAX_SKIPPED:
            known = "" if solution.residual is None else f", residual of the fixed point {residual:.2g}"
            raise RunError(
                f"diverged: {MAX_SKIPPED} steps in a row had no finite gradient (step {step + 1}{known}); last good "
                f"checkpoint: {self._last_checkpoint()}"
            )
        return {
            "loss": loss.total.mean().item(),
            "mse": loss.mse.mean().item(),
            "grad_norm": norm,
            "iterations": iterations,
            "residual": residual,
        }

    def _done(self) -> bool:
        config = self.recipe.train
        late = bool(config.seconds) and self.progress.seconds >= config.seconds
        enough = bool(config.steps) and self.progress.step >= config.steps
        enough = enough or (bool(config.macs) and self.progress.macs >= config.macs)
        return enough or (bool(config.seconds) and self._any(late))

    def _any(self, flag: bool) -> bool:
        """Whether any process says so: clocks and signals differ between them, and all must leave at the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        votes = self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum")
        return bool(votes > 0)  # type: ignore[operator]

    def _check_data(self) -> None:
        model, shape = self.recipe.model, tuple(self.data.images.shape[1:])
        if shape != (model.in_channels, model.image_size, model.image_size):
            raise ValueError(
                f"the images are {shape}, but the model takes "
                f"{(model.in_channels, model.image_size, model.image_size)} (channels, height, width)"
            )
        if model.num_classes and model.num_classes != self.data.num_classes:
            raise ValueError(f"the data has {self.data.num_classes} classes, but the model has {model.num_classes}")

    def _resume(self) -> None:
        recipe_file = self.out / RECIPE
        if recipe_file.exists():
            changed = differences(Recipe.from_json(recipe_file.read_text(encoding="utf-8")), self.recipe)
            if changed:
                raise ValueError(
                    f"{self.out} holds a run of another recipe ({'; '.join(changed)}); choose another folder"
                )
        found = checkpoint.latest(self.out / CHECKPOINTS)
        if found is not None:
            self._restore(found)
        self.resumed_at = self.progress.step
        if self.accelerator.is_main_process:
            write_atomically(recipe_file, self.recipe.to_json())
            self._forget_later_rows()

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        names = dict(self.model.named_parameters())
        weights, averaged, moments = (found.tensors(name) for name in (MODEL, EMA, OPTIMIZER))
        checkpoint.check_names(found.path / MODEL, weights, names)
        checkpoint.check_names(found.path / EMA, averaged, names)
        self.model.load_state_dict(weights)
        self.ema.shadow_params = [averaged[name].to(self.accelerator.device) for name in names]
        self.ema.optimization_step = found.state["ema_updates"]
        state: dict[int, dict[str, Tensor]] = {}
        for i, name in enumerate(names):
            slots = {key.split("/")[1]: value for key, value in moments.items() if key.split("/")[0] == name}
            if slots:
                state[i] = slots
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.progress = Progress(**{key: found.state[key] for key in asdict(Progress())})
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.state["scaler"])
        self.window = [{key: _unwritten(value) for key, value in row.items()} for row in found.state["window"]]

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            names = [name for name, _ in self.model.named_parameters()]
            moments = {
                f"{name}/{slot}": value
                for name, parameter in self.model.named_parameters()
                for slot, value in self.optimizer.state.get(parameter, {}).items()
            }
            tensors = {
                MODEL: dict(self.model.named_parameters()),
                EMA: dict(zip(names, self.ema.shadow_params, strict=True)),
                OPTIMIZER: moments,
            }
            config = self.model.to_json_string()
            files = {"model/config.json": config, "ema/config.json": config, RECIPE: self.recipe.to_json()}
            scaler = self.accelerator.scaler
            state = {
                **asdict(self.progress),
                "ema_updates": self.ema.optimization_step,
                "scaler": None if scaler is None else scaler.state_dict(),
                "window": [{key: _writable(value) for key, value in row.items()} for row in self.window],
            }
            root, step = self.out / CHECKPOINTS, self.progress.step
            if not self._saved():
                checkpoint.save(root, step, tensors, files, state)
            checkpoint.prune(root, self.recipe.train.keep, step)
        self.accelerator.wait_for_everyone()

    def _saved(self) -> bool:
        try:
            checkpoint.verify(checkpoint.folder(self.out / CHECKPOINTS, self.progress.step))
        except CheckpointError:
            return False
        return True

    def _last_checkpoint(self) -> str:
        try:
            found = checkpoint.latest(self.out / CHECKPOINTS)
        except CheckpointError:
            found = None
        return "none" if found is None else str(found.path)

    @contextmanager
    def _hold(self) -> Iterator[None]:
        """Hold the folder against a second run."""
        if not self.accelerator.is_main_process:
            yield
            return
        self.out.mkdir(parents=True, exist_ok=True)
        # The system frees the lock of a process that dies, so none goes stale.
        lock, holder = FileLock(self.out / ".lock"), self.out / ".holder"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
            raise ValueError(f"{self.out} is in use by {who}; wait for it, or choose another folder") from None
        try:
            if holder.exists():
                dead = holder.read_text(encoding="utf-8")
                warnings.warn(
                    f"{self.out} was held by {dead}, which is gone; taking it over", RuntimeWarning, stacklevel=4
                )
            write_atomically(holder, f"process {os.getpid()}")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def _forget_later_rows(self) -> None:
        """Drop metrics of steps that a killed run made after its last checkpoint; they are about to be made again."""
        path = self.out / METRICS
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.progress.step]
            write_atomically(path, "".join(kept))

    @contextmanager
    def _signals(self) -> Iterator[list[int]]:
        """Collect SIGINT and SIGTERM, so that the step under way can end."""
        received: list[int] = []
        numbers = (signal.SIGINT, signal.SIGTERM)
        old = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
        try:
            yield received
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _bar(self) -> tqdm[Any]:
        config = self.recipe.train
        return tqdm(
            total=config.steps or None,
            initial=self.progress.step,
            desc=self.recipe.name,
            unit=" steps",
            dynamic_ncols=True,
            # None: only on a terminal.
            disable=None if self.accelerator.is_main_process else True,
        )

    def _postfix(self) -> str:
        text = f"loss {self._mean('loss'):.4f}, iterations {self._mean('iterations'):.1f}"
        residual = self.window[-1]["residual"]
        if np.isfinite(residual):
            text += f", residual {residual:.1e}"
        config = self.recipe.train
        if config.seconds:
            text += f", {max(config.seconds - self.progress.seconds, 0):.0f} s left"
        elif config.macs:
            done = self.progress.macs / config.macs
            text += f", {self.progress.seconds * (1 - done) / max(done, 1e-9):.0f} s left"
        return text

    def _log(self) -> None:
        if not self.accelerator.is_main_process:
            return
        values = {key: self._mean(key) for key in ("loss", "mse", "grad_norm", "iterations")}
        values["residual"] = self.window[-1]["residual"]
        row = {**asdict(self.progress), **{key: _writable(value) for key, value in values.items()}}
        with (self.out / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _mean(self, key: str) -> float:
        return float(np.mean([row[key] for row in self.window]))


def _writable(value: float) -> float | None:
    """JSON has no nan."""
    return value if np.isfinite(value) else None


def _unwritten(value: float | None) -> float:
    return float("nan") if value is None else value


@dataclass(frozen=True)
class Run:
    """A trained run, read from its folder.

    Attributes:
        recipe: What it was trained by.
        model: The network with averaged weights, in evaluation mode.
        progress: How far it had come.
        weights: The averaged weights' SHA-256.
    """

    recipe: Recipe
    model: DiffusionTransformer
    progress: Progress
    weights: str


def load_run(out: Path) -> Run:
    """Load the newest whole checkpoint of a run, also of one that is still training.

    Raises:
        ValueError: There is no run in the folder, or no checkpoint yet.
        CheckpointError: All checkpoints are damaged, or the newest whole one does not fit its recipe.
    """
    try:
        return _load_newest(out)
    except FileNotFoundError:
        # A run that is still training deleted the checkpoint while it was being read; there is a newer one.
        return _load_newest(out)


def _load_newest(out: Path) -> Run:
    found = checkpoint.latest(out / CHECKPOINTS)
    if found is None:
        raise ValueError(f"there is no run with a checkpoint in {out}; expected a folder made by fpdm train --out")
    recipe = Recipe.from_json((found.path / RECIPE).read_text(encoding="utf-8"))
    model = DiffusionTransformer.from_shape(recipe.model)
    weights = found.tensors(EMA)
    checkpoint.check_names(found.path / EMA, weights, dict(model.named_parameters()))
    model.load_state_dict(weights)
    progress = Progress(**{key: found.state[key] for key in asdict(Progress())})
    return Run(recipe, model.eval(), progress, found.hashes[EMA])
