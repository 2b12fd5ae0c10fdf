"""Callbacks of diffusion training: validation loss, samples, loss curve, README and tracker."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from fpdm.autoencoder.interface import Autoencoder
from fpdm.data.dataset import Examples
from fpdm.drawing.images import save_png
from fpdm.errors import RunError
from fpdm.files import write_atomically
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, LOSS_CURVE, METRICS, README, SAMPLES, VALIDATION
from fpdm.runs.metrics_log import append_row, json_safe, rows_of
from fpdm.runs.pipeline_files import PipelineConfig, id2label, publish
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import read_classes
from fpdm.runs.sampling_file import keep_sampling, untuned
from fpdm.sampling.images import sample_shape
from fpdm.training.loop import Callback
from fpdm.training.loss_curve import save_loss_curve
from fpdm.training.samples import few_samples, side_by_side
from fpdm.training.sharding import gather_full, is_sharded, load_sharded
from fpdm.training.tracker import Tracker
from fpdm.training.train_state import TrainState
from fpdm.training.validation import evaluate_loss

VALIDATION_IMAGES = 128


class TrainingLogger(Callback):
    """Shows a diffusion run in its folder and in its tracker. The main process does; the others give their weights.

    Args:
        recipe: The recipe of the run.
        out: The run's folder.
        accelerator: From `make_accelerator`.
        state: The network and its averaged weights.
        validation: Images to measure the validation loss on; None for none.
        readme: Returns the text of the run's README.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        accelerator: Accelerator,
        state: TrainState[DiffusionTransformer],
        validation: Examples | None,
        readme: Callable[[], str],
    ) -> None:
        self.recipe, self.out, self.accelerator, self.state = recipe, out, accelerator, state
        self.validation, self.readme = validation, readme
        self.tracker = Tracker(accelerator, recipe, out)
        self._autoencoder: Autoencoder | None = None  # None where samples cannot be shown
        self._curve_is_stale = False
        self._seconds = 0.0  # of the step before

    def on_train_begin(self, progress: Progress) -> None:
        self.tracker.resumed_at = progress.step
        self._seconds = progress.seconds
        self._curve_is_stale = progress.step > 0  # a call that was killed may not have drawn it
        if not self.accelerator.is_main_process:
            return
        write_atomically(self.out / README, self.readme())
        # What a killed run showed after its last checkpoint is made again.
        for path in (self.out / SAMPLES).glob("step-*.png"):
            if path > self._sheet(progress.step):
                path.unlink()
        if self.recipe.train.draws_samples:
            self._autoencoder = self._load_autoencoder()

    def on_log(self, progress: Progress, figures: Mapping[str, float]) -> None:
        self.tracker.log({f"train/{name}": value for name, value in figures.items()}, progress.step)
        self._curve_is_stale = True

    def on_step_end(self, progress: Progress) -> None:
        train = self.recipe.train
        if train.validate_every and progress.step % train.validate_every == 0:
            self.run_validation(progress.step)
        due = train.sample_every and progress.step % train.sample_every == 0
        if due or _doubled(self._seconds, progress.seconds, train.sample_after):
            self.save_samples(progress.step)
        self._seconds = progress.seconds

    def on_train_end(self, progress: Progress) -> None:
        if self.recipe.train.validate_every:
            self.run_validation(progress.step)
        if self.recipe.train.draws_samples:
            self.save_samples(progress.step)

    def on_save(self, progress: Progress) -> None:
        recipe = self.recipe
        names = id2label(read_classes(self.out, recipe).names)
        config = PipelineConfig(recipe.name, recipe.schedule, names, recipe.autoencoder)
        publish(self.out, checkpoint.folder(self.out / CHECKPOINTS, progress.step), config)
        keep_sampling(self.out, recipe)
        if self._curve_is_stale:
            self.draw_loss_curve()

    def close(self) -> None:
        self.tracker.close()

    def run_validation(self, step: int) -> None:
        """Measure the averaged weights' loss on the validation images, unless there is a row of this step."""
        if self.validation is None:
            return
        with self._evaluation_model(averaged=True) as model:
            if model is None or any(row["step"] == step for row in rows_of(self.out / VALIDATION)):
                return
            losses = evaluate_loss(
                model,
                self.recipe.schedule,
                self.recipe.train.make_objective(),
                self.validation,
                images=VALIDATION_IMAGES,
                seed=self.recipe.train.seed,
            )
        mean = float(np.mean([row.loss for row in losses]))
        by_timestep = [(row.timestep, json_safe(row.loss)) for row in losses]
        append_row(self.out / VALIDATION, {"step": step, "loss": mean, "by_timestep": by_timestep})
        figures = {f"validation/timestep_{row.timestep}": row.loss for row in losses}
        self.tracker.log({"validation/loss": mean, **figures}, step)
        self._curve_is_stale = True

    def save_samples(self, step: int) -> None:
        """Draw samples of the averaged and the raw weights side by side, unless there is a sheet of this step."""
        path, sheets, failed = self._sheet(step), [], False
        for averaged in (True, False):
            with self._evaluation_model(averaged=averaged) as model:
                if model is None or self._autoencoder is None or path.exists() or failed:
                    continue
                try:
                    sheets.append(
                        few_samples(
                            model,
                            self.recipe.schedule,
                            self._autoencoder,
                            untuned(self.recipe).plan,
                            seed=self.recipe.train.seed,
                            device=self.accelerator.device,
                        )
                    )
                except RunError as error:
                    # The gradients decide whether the run goes on.
                    failed = True
                    warnings.warn(f"no samples at step {step}: {error}", RuntimeWarning, stacklevel=2)
        if len(sheets) == 2:
            picture = side_by_side(*sheets)
            path.parent.mkdir(exist_ok=True)
            save_png(picture, path)
            self.tracker.show("samples", picture, step)

    def draw_loss_curve(self) -> None:
        """Draw the training and validation losses recorded so far."""
        training, validation = (rows_of(self.out / name) for name in (METRICS, VALIDATION))
        save_loss_curve(training, validation, self.out / LOSS_CURVE, title=self.recipe.name)
        self._curve_is_stale = False

    @contextmanager
    def _evaluation_model(self, *, averaged: bool) -> Iterator[DiffusionTransformer | None]:
        """Yield the network in evaluation mode with averaged or raw weights, and None outside the main process.

        All processes must enter it: each gives its shard of the weights. Afterwards the network is as it was.
        """
        model, parameters = self.state.model, list(self.state.model.parameters())
        if is_sharded(model):
            weights = {name: gather_full(value) for name, value in self.state.parameters(averaged=averaged).items()}
            yield self._copy(weights) if self.accelerator.is_main_process else None
            return
        if not self.accelerator.is_main_process:
            yield None
            return
        training = model.training
        if averaged:
            self.state.ema.store(parameters)
            self.state.ema.copy_to(parameters)
        try:
            yield model.eval()
        finally:
            model.train(training)
            if averaged:
                self.state.ema.restore(parameters)

    def _copy(self, weights: Mapping[str, Tensor]) -> DiffusionTransformer:
        recipe = self.recipe
        copy = DiffusionTransformer.from_shape(recipe.model, iterations=recipe.train.mean_iterations)
        copy = copy.to(self.accelerator.device)  # type: ignore[arg-type]
        load_sharded(dict(copy.named_parameters()), weights)
        return copy.eval()

    def _load_autoencoder(self) -> Autoencoder | None:
        try:
            found = self.recipe.autoencoder.load(self.accelerator.device)
            found.image_shape(sample_shape(self.state.model))
        except ValueError as error:
            hint = "; if it has moved, say where it is with --autoencoder" if self.recipe.autoencoder.source else ""
            warnings.warn(f"no samples are drawn during training: {error}{hint}", RuntimeWarning, stacklevel=2)
            return None
        return found

    def _sheet(self, step: int) -> Path:
        return self.out / SAMPLES / f"step-{step:09d}.png"


def _doubled(before: float, now: float, first: float) -> bool:
    """Whether one of the times `first`, 2 x `first`, 4 x `first`, ... came since the step before."""
    if not first or now < first:
        return False
    return before < first * 2 ** math.floor(math.log2(now / first))
