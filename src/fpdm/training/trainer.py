"""The training loop, on accelerate: one process or many, resumed bit-exactly by the same call."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor

from fpdm.data.dataset import Examples
from fpdm.errors import Interrupted, RunError
from fpdm.files import lock, write_atomically
from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.fixed_point.solve import mean_iterations
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, EMA, MODEL, OPTIMIZER, README, RECIPE
from fpdm.runs.metrics_log import json_safe
from fpdm.runs.progress import Metrics, Progress
from fpdm.runs.recipe import Recipe, differences
from fpdm.signals import stop_signals
from fpdm.training.batch import make_batch
from fpdm.training.callbacks import Observer
from fpdm.training.optimizer_state import load_optimizer_state, optimizer_state
from fpdm.training.run_card import describe_run
from fpdm.training.sharding import check_sharding, gather_full, load_sharded, shard_like
from fpdm.training.timer import StepTimer
from fpdm.training.tracker import make_accelerator
from fpdm.training.warm_start import warm_start

MAX_SKIPPED = 10  # steps in a row without a finite gradient, after which the run ends


class Part(NamedTuple):
    """What a micro-batch measured; the tensors, of no dimension, are still on the device."""

    loss: Tensor
    mse: Tensor
    iterations: float
    no_grad_iterations: float
    residual: Tensor | None


class Trainer:
    """Trains a recipe in a folder. Everything that a checkpoint holds is here; what is shown is the observer's.

    Args:
        recipe: What to train.
        data: The training images, or their latents.
        out: The run's folder; an interrupted run in it is resumed.
        validation: Images that are not trained on, to watch the loss on; None or empty for none.
        command: What was called, for the run's README.

    Attributes:
        progress: How far the run has come.
        resumed_at: The step that `train` began with.

    Raises:
        ValueError: The data does not fit the model, or the batch the processes and micro-batches, or the library of
            the tracker is missing.
    """

    def __init__(
        self, recipe: Recipe, data: Examples, out: Path, *, validation: Examples | None = None, command: str = ""
    ) -> None:
        validation = validation or None  # those of a cache may be empty
        self.recipe, self.data, self.validation, self.out, self.command = recipe, data, validation, out, command
        for images in (data, validation):
            if images is not None:
                _check_fit(images, recipe)
        config = recipe.train
        self.accelerator = make_accelerator(config, out)
        config.micro_batch(self.accelerator.num_processes)  # raises before anything is made
        self.gradient, self.objective = config.make_gradient(), config.make_objective()
        set_seed(config.seed)
        self.model = DiffusionTransformer.from_shape(recipe.model)
        if not checkpoint.exist(out / CHECKPOINTS):  # a run that is resumed has its own weights
            self.recipe = recipe = warm_start(self.model, recipe)
        self.model.checkpoint_activations(config.activation_checkpointing)
        self.cost = self.model.cost()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.progress, self.resumed_at = Progress(), 0
        check_sharding(self.accelerator)
        self.net, self.stepper = self.accelerator.prepare(self.model, self.optimizer)
        # Of the prepared weights: on their device, and spread over the processes where they are.
        self.ema = EMAModel(self.model.parameters(), decay=config.ema_decay)
        self.observer = Observer(recipe, out, self.accelerator, self.model, self.ema, validation)

    def train(self) -> Progress:
        """Train to the recipe's end; nothing is done if the run is there already.

        Raises:
            ValueError: Another process holds the folder, or it holds a run of another recipe.
            CheckpointError: All checkpoints are damaged, or the newest whole one does not fit.
            Interrupted: SIGINT, SIGTERM or SIGUSR1 came; a checkpoint was saved.
            RunError: The gradient stayed without a finite value, the disk is full, or another process is gone.
        """
        with lock(self.out) if self.accelerator.is_main_process else nullcontext():
            self._resume()
            try:
                self._run()
            except OSError as error:
                raise RunError(
                    f"cannot save step {self.progress.step}: {error}; last good checkpoint: {self._last_checkpoint()}"
                ) from error
            except RuntimeError as error:
                if self.accelerator.num_processes == 1 or not _disconnected(error):
                    raise
                raise RunError(
                    f"process {self.accelerator.process_index} lost another one at step {self.progress.step}, and the "
                    f"run cannot go on without it; last good checkpoint: {self._last_checkpoint()}"
                ) from error
        return self.progress

    def _run(self) -> None:
        every, clock = self.recipe.train.checkpoint_every, StepTimer()
        with stop_signals() as received, clock.listening(), self.observer.watching(self.progress):
            while not self._done():
                clock.start()
                metrics = self.step(measure=self.observer.due(self.progress.step + 1))
                self.progress = replace(self.progress, seconds=self.progress.seconds + clock.stop())
                self.observer.note(metrics, self.progress)
                # Before the checkpoint: what a checkpoint's step has shown is not made again.
                self.observer.look(self.progress.step)
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
            self.observer.look(self.progress.step, end=True)
            self._save()

    def step(self, *, measure: bool = False) -> Metrics:
        """Make one optimiser step; with `measure` the metrics have the residual of the fixed point.

        Raises:
            RunError: The gradient stayed without a finite value.
        """
        config, step = self.recipe.train, self.progress.step
        measure = measure or self.progress.skipped_in_a_row > 0  # in trouble: say how large the residual is
        solver = self.gradient.bind(config.seed, step, measure=measure)  # the same n and m for all micro-batches
        parts = [self._backward(part, solver) for part in range(config.accumulate)]
        norm = self._update()
        finite = bool(np.isfinite(norm))
        iterations = _mean(part.iterations for part in parts)
        macs = self.cost.training_macs(iterations, _mean(part.no_grad_iterations for part in parts))
        self.progress = replace(
            self.progress,
            step=step + 1,
            macs=self.progress.macs + config.batch_size * macs,
            skipped=self.progress.skipped + (not finite),
            skipped_in_a_row=0 if finite else self.progress.skipped_in_a_row + 1,
        )
        known = [float(part.residual) for part in parts if part.residual is not None]
        loss, mse, residual = self._over_processes(
            _mean(float(part.loss) for part in parts),
            _mean(float(part.mse) for part in parts),
            float(np.max(known)) if known else float("nan"),  # nan in one is nan here
        )
        if self.progress.skipped_in_a_row >= MAX_SKIPPED:
            word = f", residual of the fixed point {residual:.2g}" if known else ""
            raise RunError(
                f"diverged: {MAX_SKIPPED} steps in a row had no finite gradient (step {step + 1}{word}); last good "
                f"checkpoint: {self._last_checkpoint()}"
            )
        return Metrics(
            loss=loss,
            mse=mse,
            grad_norm=norm,
            iterations=iterations,
            residual=residual,
        )

    def _over_processes(self, loss: float, mse: float, residual: float) -> tuple[float, float, float]:
        """The means of the losses and the largest residual."""
        if self.accelerator.num_processes == 1:
            return loss, mse, residual
        mine = torch.tensor([[loss, mse, residual]], device=self.accelerator.device)  # (1, 3)
        gathered = self.accelerator.gather(mine)
        assert isinstance(gathered, Tensor)
        every = gathered.double().cpu().numpy()  # (P, 3)
        return float(every[:, 0].mean()), float(every[:, 1].mean()), float(every[:, 2].max())

    def _backward(self, part: int, solver: FixedPointSolver) -> Part:
        """Add the gradient of one micro-batch to those before it."""
        config, step = self.recipe.train, self.progress.step
        count = config.micro_batch(self.accelerator.num_processes)
        batch = make_batch(
            self.data,
            seed=config.seed,
            first=step * config.batch_size + (self.accelerator.process_index * config.accumulate + part) * count,
            count=count,
            schedule=self.recipe.schedule,
            num_classes=self.recipe.model.num_classes,
            label_dropout=config.label_dropout,
            flip=self.recipe.data.flip,
        )
        x0, eps, t, y = (tensor.to(self.accelerator.device) for tensor in batch)
        x = self.recipe.schedule.add_noise(x0, eps, t)  # (B, C, H, W)
        last = part + 1 == config.accumulate
        # The processes exchange their gradients once a step, with the last micro-batch.
        with nullcontext() if last else self.accelerator.no_sync(self.net):
            with self.accelerator.autocast():
                prediction = self.net(x, t, y, solver=solver)
            loss = self.objective.loss(self.recipe.schedule, prediction.value, prediction.variance, x, x0, eps, t)
            self.accelerator.backward(loss.total.mean() / config.accumulate)
        solution = prediction.solution
        return Part(
            loss=loss.total.detach().mean(),
            mse=loss.mse.detach().mean(),
            iterations=mean_iterations(solution.iters),
            no_grad_iterations=mean_iterations(solution.no_grad_iters),
            residual=None if solution.residual is None else solution.residual.max(),
        )

    def _update(self) -> float:
        """Change the weights by the gradient, if it is finite; its norm."""
        config = self.recipe.train
        # The norm is of the gradient averaged over the processes: they all skip, or none does.
        norm = gather_full(
            torch.as_tensor(self.accelerator.clip_grad_norm_(self.net.parameters(), config.clip_norm))
        ).item()
        finite = bool(np.isfinite(norm))
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.progress)
        if finite or self.accelerator.scaler is not None:
            # A scaler of fp16 gradients leaves the weights alone by itself, and learns from it.
            self.stepper.step()
        if finite:
            self.ema.step(self.model.parameters())
        self.stepper.zero_grad()
        return norm

    def _done(self) -> bool:
        config = self.recipe.train
        # By the main process's clock: in the others' steps is the time that they wait while it shows something.
        late = self.accelerator.is_main_process and self.progress.seconds >= config.seconds
        enough = bool(config.steps) and self.progress.step >= config.steps
        enough = enough or (bool(config.macs) and self.progress.macs >= config.macs)
        return enough or (bool(config.seconds) and self._any(late))

    def _any(self, flag: bool) -> bool:
        """Whether any process says so: clocks and signals differ between them, and all must leave at the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        votes = self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum")
        return bool(votes > 0)  # type: ignore[operator]

    def _resume(self) -> None:
        found = checkpoint.latest(self.out / CHECKPOINTS)
        recipe_file = self.out / RECIPE
        known = recipe_file if found is None else found.path / RECIPE  # the latter's hash is known
        if known.exists():
            try:
                before = Recipe.from_json(known.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{known}: {error}; mend it, or choose another folder") from error
            changed = differences(before, self.recipe)
            if changed:
                raise ValueError(
                    f"{self.out} holds a run of another recipe ({'; '.join(changed)}); choose another folder"
                )
            self.recipe = replace(self.recipe, start=before.start)
        if found is not None:
            self._restore(found)
        self.resumed_at = self.progress.step
        if self.accelerator.is_main_process:
            checkpoint.sweep(self.out / CHECKPOINTS)
            write_atomically(recipe_file, self.recipe.to_json())
            write_atomically(self.out / README, self._readme())

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        names = dict(self.model.named_parameters())
        weights, averaged, slots = (found.tensors(name) for name in (MODEL, EMA, OPTIMIZER))
        checkpoint.check_names(found.path / MODEL, weights, names)
        checkpoint.check_names(found.path / EMA, averaged, names)
        load_sharded(names, weights)
        load_sharded(dict(zip(names, self.ema.shadow_params, strict=True)), averaged)
        self.ema.optimization_step = found.state["ema_updates"]
        slots = {
            key: shard_like(value, names[key.rpartition("/")[0]]) if value.ndim else value
            for key, value in slots.items()
        }
        load_optimizer_state(names.items(), self.optimizer, slots)
        self.progress = Progress(**{key: found.state[key] for key in asdict(Progress())})
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.state["scaler"])
        self.observer.window = [
            Metrics(**{key: float("nan") if value is None else value for key, value in row.items()})
            for row in found.state["window"]
        ]

    def _save(self) -> None:
        names = dict(self.model.named_parameters())
        parts = {
            MODEL: names,
            EMA: dict(zip(names, self.ema.shadow_params, strict=True)),
            OPTIMIZER: optimizer_state(names.items(), self.optimizer),
        }
        tensors = {file: {name: gather_full(value) for name, value in group.items()} for file, group in parts.items()}
        if self.accelerator.is_main_process:
            config = self.model.to_json_string()
            files = {"model/config.json": config, "ema/config.json": config, RECIPE: self.recipe.to_json()}
            scaler = self.accelerator.scaler
            state = {
                **asdict(self.progress),
                "ema_updates": self.ema.optimization_step,
                "scaler": None if scaler is None else scaler.state_dict(),
                "window": [
                    {key: json_safe(value) for key, value in asdict(row).items()} for row in self.observer.window
                ],
            }
            root, step = self.out / CHECKPOINTS, self.progress.step
            if not checkpoint.is_whole(root, step):
                checkpoint.save(root, step, tensors, files, state)
            checkpoint.prune(root, self.recipe.train.keep, step)
            self.observer.draw()
        self.accelerator.wait_for_everyone()

    def _last_checkpoint(self) -> str:
        return checkpoint.last_good(self.out / CHECKPOINTS)

    def _readme(self) -> str:
        device = self.accelerator.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return describe_run(
            self.recipe,
            self.cost,
            self.data,
            self.validation,
            out=self.out,
            command=self.command,
            machine=f"{self.accelerator.num_processes} x {name}",
        )


def _check_fit(images: Examples, recipe: Recipe) -> None:
    model, shape = recipe.model, images.shape
    if shape != (model.in_channels, model.image_size, model.image_size):
        raise ValueError(
            f"the images are {shape}, but the model takes "
            f"{(model.in_channels, model.image_size, model.image_size)} (channels, height, width)"
        )
    if model.num_classes and model.num_classes != images.num_classes:
        raise ValueError(f"the data has {images.num_classes} classes, but the model has {model.num_classes}")


def _disconnected(error: RuntimeError) -> bool:
    """Whether the processes no longer reach each other; gloo has no class of its own for that."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
