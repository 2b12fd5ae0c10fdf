"""What a run shows of itself while it trains: rows, curves, samples. Training is the same, bit for bit, without it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor
from tqdm.auto import tqdm

from fpdm.autoencoder.interface import Autoencoder
from fpdm.data.dataset import Examples
from fpdm.drawing.images import save_png
from fpdm.errors import RunError
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.layout import LOSS_CURVE, METRICS, SAMPLES, VALIDATION
from fpdm.runs.metrics_log import append_row, drop_rows_after, json_safe, read_rows
from fpdm.runs.progress import Metrics, Progress
from fpdm.runs.recipe import Recipe
from fpdm.sampling.images import sample_shape
from fpdm.training.loss_curve import save_loss_curve
from fpdm.training.samples import few_samples, side_by_side
from fpdm.training.sharding import gather_full, is_sharded, load_sharded
from fpdm.training.tracker import Tracker
from fpdm.training.validation import evaluate_loss

VALIDATION_IMAGES = 128


class Observer:
    """Shows a run: a bar, rows and pictures in its folder, and its tracker. The main process does; the others do not.

    It touches neither the process's random numbers nor the progress, and leaves the weights as they were.

    Args:
        recipe: What is trained.
        out: The run's folder.
        accelerator: From `make_accelerator`.
        model: The network, with raw weights.
        ema: The averaged ones.
        validation: Images to watch the loss on; None for none.

    Attributes:
        window: What the steps since the last row of metrics measured; a resumed run's begin with it.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        accelerator: Accelerator,
        model: DiffusionTransformer,
        ema: EMAModel,
        validation: Examples | None,
    ) -> None:
        self.recipe, self.out, self.accelerator = recipe, out, accelerator
        self.model, self.ema, self.validation = model, ema, validation
        self.window: list[Metrics] = []
        self.last = Progress()  # at the last row of metrics, or where the run was resumed
        self.drawn = True  # whether the curve shows all rows
        self.copies: dict[bool, DiffusionTransformer] = {}  # whole ones of spread weights, averaged and raw
        self.autoencoder: Autoencoder | None = None  # there is one where samples can be shown

    @contextmanager
    def watching(self, progress: Progress) -> Iterator[None]:
        """Show a run that goes on from here."""
        self.last = progress
        self.tracker = Tracker(self.accelerator, self.recipe, self.out, resumed_at=progress.step)
        if self.accelerator.is_main_process:
            self._begin(progress)
        try:
            with self._bar(progress) as self.bar:
                yield
        finally:
            self.tracker.close()

    def due(self, step: int) -> bool:
        """Whether a row of metrics ends with this step."""
        return step % self.recipe.train.log_every == 0

    def note(self, metrics: Metrics, progress: Progress) -> None:
        """Take in a step's measurements."""
        self.window.append(metrics)
        if self.due(progress.step):
            if self.accelerator.is_main_process:
                self._log(progress)
                self.bar.set_postfix_str(self._postfix(progress))
            self.window.clear()
        self.bar.update(1)

    def look(self, step: int, *, end: bool = False) -> None:
        """Measure the validation loss and draw samples, where they are due and not there yet."""
        train = self.recipe.train
        validate = self.validation is not None and _due(train.validate_every, step, end)
        sample = _due(train.sample_every, step, end)
        if not (validate or sample):
            return
        if is_sharded(self.model):  # all processes give their parts, also to what only one will look at
            self.copies = {averaged: self._copy(averaged=averaged) for averaged in (True, False)}
        if self.accelerator.is_main_process:
            if validate and self.validation is not None:
                self._validate(self.validation, step)
            if sample and self.autoencoder is not None:
                self._sample(self.autoencoder, step)
        self.copies.clear()

    def draw(self) -> None:
        """Draw the loss curve, where there is something new."""
        if self.drawn or not self.accelerator.is_main_process:
            return
        training, validation = (read_rows(self.out / name) for name in (METRICS, VALIDATION))
        save_loss_curve(training, validation, self.out / LOSS_CURVE, title=self.recipe.name)
        self.drawn = True

    def _begin(self, progress: Progress) -> None:
        """Drop what a killed run showed after its last checkpoint; it is about to be made again."""
        for name in (METRICS, VALIDATION):
            drop_rows_after(self.out / name, progress.step)
        for path in (self.out / SAMPLES).glob("step-*.png"):
            if path > self._sheet(progress.step):
                path.unlink()
        if self.recipe.train.sample_every:
            self.autoencoder = self._decoder()

    def _log(self, progress: Progress) -> None:
        figures = {
            **{name: self._mean(name) for name in ("loss", "mse", "grad_norm", "iterations")},
            "residual": self.window[-1].residual,
            "learning_rate": self.recipe.train.rate(progress),
            "seconds_per_step": (progress.seconds - self.last.seconds) / (progress.step - self.last.step),
        }
        append_row(self.out / METRICS, {**dataclasses.asdict(progress), **figures})
        self.tracker.log({f"train/{name}": value for name, value in figures.items()}, progress.step)
        self.last, self.drawn = progress, False

    def _validate(self, data: Examples, step: int) -> None:
        if any(row["step"] == step for row in read_rows(self.out / VALIDATION)):
            return
        recipe = self.recipe
        with self._shown(averaged=True) as model:
            losses = evaluate_loss(
                model,
                recipe.schedule,
                recipe.train.make_objective(),
                data,
                images=VALIDATION_IMAGES,
                seed=recipe.train.seed,
            )
        mean = float(np.mean([row.loss for row in losses]))
        by_timestep = [(row.timestep, json_safe(row.loss)) for row in losses]
        append_row(self.out / VALIDATION, {"step": step, "loss": mean, "by_timestep": by_timestep})
        figures = {f"validation/timestep_{row.timestep}": row.loss for row in losses}
        self.tracker.log({"validation/loss": mean, **figures}, step)
        self.drawn = False

    def _sample(self, autoencoder: Autoencoder, step: int) -> None:
        if self._sheet(step).exists():
            return
        try:
            picture = side_by_side(*(self._samples(autoencoder, averaged=averaged) for averaged in (True, False)))
        except RunError as error:
            # Whether the run goes on is said by its gradients.
            warnings.warn(f"no samples of step {step}: {error}", RuntimeWarning, stacklevel=2)
            return
        self._sheet(step).parent.mkdir(exist_ok=True)
        save_png(picture, self._sheet(step))
        self.tracker.show("samples", picture, step)

    def _samples(self, autoencoder: Autoencoder, *, averaged: bool) -> Tensor:
        with self._shown(averaged=averaged) as model:
            device = self.accelerator.device
            seed = self.recipe.train.seed
            return few_samples(model, self.recipe.schedule, autoencoder, seed=seed, device=device)

    @contextmanager
    def _shown(self, *, averaged: bool) -> Iterator[DiffusionTransformer]:
        """The model in evaluation mode, with averaged weights or its own; afterwards as it was."""
        if self.copies:
            yield self.copies[averaged]
            return
        parameters, training = list(self.model.parameters()), self.model.training
        if averaged:
            self.ema.store(parameters)
            self.ema.copy_to(parameters)
        try:
            yield self.model.eval()
        finally:
            self.model.train(training)
            if averaged:
                self.ema.restore(parameters)

    def _copy(self, *, averaged: bool) -> DiffusionTransformer:
        names = dict(self.model.named_parameters())
        values = dict(zip(names, self.ema.shadow_params, strict=True)) if averaged else names
        copy = DiffusionTransformer.from_shape(self.model.shape).to(self.accelerator.device)  # type: ignore[arg-type]
        load_sharded(dict(copy.named_parameters()), {name: gather_full(value) for name, value in values.items()})
        return copy.eval()

    def _decoder(self) -> Autoencoder | None:
        """What makes pictures of the model's samples; None, with a word, if there is nothing."""
        try:
            found = self.recipe.autoencoder.load(self.accelerator.device)
            found.image_shape(sample_shape(self.model))
        except ValueError as error:
            warnings.warn(f"no samples are drawn on the way: {error}", RuntimeWarning, stacklevel=2)
            return None
        return found

    def _sheet(self, step: int) -> Path:
        return self.out / SAMPLES / f"step-{step:09d}.png"

    def _bar(self, progress: Progress) -> tqdm[Any]:
        return tqdm(
            total=self.recipe.train.steps or None,
            initial=progress.step,
            desc=self.recipe.name,
            unit=" steps",
            dynamic_ncols=True,
            # None: only on a terminal.
            disable=None if self.accelerator.is_main_process else True,
        )

    def _postfix(self, progress: Progress) -> str:
        text = f"loss {self._mean('loss'):.4f}, iterations {self._mean('iterations'):.1f}"
        residual = self.window[-1].residual
        if np.isfinite(residual):
            text += f", residual {residual:.1e}"
        train = self.recipe.train
        if train.seconds:
            text += f", {max(train.seconds - progress.seconds, 0):.0f} s left"
        elif train.macs:
            done = progress.macs / train.macs
            text += f", {progress.seconds * (1 - done) / max(done, 1e-9):.0f} s left"
        return text

    def _mean(self, name: str) -> float:
        return float(np.mean([getattr(metrics, name) for metrics in self.window]))


def _due(every: int, step: int, end: bool) -> bool:
    return bool(every) and (end or step % every == 0)
