"""A training loop that may be killed at any moment: the same call resumes it, bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from fpdm.configuration import warn_of_moves
from fpdm.errors import CheckpointError, Interrupted, RunError
from fpdm.files import check_writable, write_json
from fpdm.outputs import OutputFolder
from fpdm.progress_bar import ProgressBar, progress_bar
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, FOLDERS, LOGS, METRICS
from fpdm.runs.metrics_log import LogState, append_row, check_log, json_safe, rewind_log
from fpdm.runs.progress import Progress
from fpdm.signals import stop_signals
from fpdm.training.timer import StepTimer

MAX_CONSECUTIVE_SKIPS = 10  # steps in a row without a finite gradient, after which the run ends


class StepResult(NamedTuple):
    """The outcome of one optimiser step.

    Attributes:
        metrics: Measurements by name, nan where a step did not measure.
        macs: Multiply-accumulates, over all processes.
        finite: Whether the gradient was finite; otherwise the weights were left as they were.
        detail: More about the step, for the message should the run diverge.
    """

    metrics: Mapping[str, float]
    macs: float
    finite: bool
    detail: str = ""


class SavedState(NamedTuple):
    """Content of a checkpoint besides the progress.

    Attributes:
        tensors: Tensors by file and name.
        files: Texts by file.
        values: Values for `state.json`.
    """

    tensors: Mapping[str, Mapping[str, Tensor]]
    files: Mapping[str, str]
    values: Mapping[str, Any]


class RecipeChanges(NamedTuple):
    """Differences between the recipe of a folder and ours, each as "field: old -> new".

    Attributes:
        refused: What a resumed run may not change.
        moved: Places of what is read from another place now, with the same content.
    """

    refused: Sequence[str]
    moved: Sequence[str] = ()


class Limits(Protocol):
    """The settings of a training that the loop needs; both training configurations have them."""

    @property
    def steps(self) -> int:
        """Number of optimiser steps; 0 if another limit decides."""
        ...

    @property
    def seconds(self) -> float:
        """Seconds of training; 0 if another limit decides."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Steps between two checkpoints; 0 saves only at the end."""
        ...

    @property
    def keep(self) -> int:
        """Number of checkpoints to keep."""
        ...

    @property
    def log_every(self) -> int:
        """Steps between two rows of the metrics log."""
        ...

    def share_done(self, progress: Progress) -> float:
        """Return the share of the training that is done, from 0 to 1."""
        ...

    def rate(self, progress: Progress) -> float:
        """Return the learning rate of the next step."""
        ...


class Trainable(Protocol):
    """Interface of the object that a `TrainingLoop` trains."""

    def step(self, progress: Progress, *, measure: bool) -> StepResult:
        """Make the optimiser step that follows `progress`; with `measure`, take the expensive measurements too."""
        ...

    def summarize(self, window: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the row of the metrics log for the steps since the last one."""
        ...

    def recipe_json(self) -> str:
        """Return the recipe as JSON."""
        ...

    def recipe_changes(self, saved: Path) -> RecipeChanges:
        """Compare the saved recipe with ours.

        Raises:
            ValueError: The file does not hold a recipe.
        """
        ...

    def state(self) -> SavedState:
        """Return what a checkpoint is to hold. All processes call this."""
        ...

    def load_state(self, found: checkpoint.Checkpoint) -> None:
        """Restore what `state` gave.

        Raises:
            CheckpointError: It does not fit.
        """
        ...


class Callback:
    """Shows or records something while a run trains; the training is the same, bit for bit, without it.

    `on_log` and `on_save` are called by the main process only, the other methods by all processes.
    """

    def on_train_begin(self, progress: Progress) -> None:
        """Prepare for a run that starts, or resumes, at `progress`."""

    def on_log(self, progress: Progress, figures: Mapping[str, float]) -> None:
        """Take in a row of the metrics log."""

    def on_step_end(self, progress: Progress) -> None:
        """Follow an optimiser step. It comes before the step's checkpoint, so that nothing is shown twice."""

    def on_save(self, progress: Progress) -> None:
        """Follow a checkpoint."""

    def on_train_end(self, progress: Progress) -> None:
        """Follow the last step. It comes before the last checkpoint, and is called again for a finished run."""

    def close(self) -> None:
        """Release what is held, however the run ended."""


class TrainingLoop:
    """Trains something step by step in a folder: checkpoints, resuming, signals, metrics log, progress bar.

    Args:
        trainable: What to train.
        limits: When to end, to save and to log.
        out: The run's folder; an interrupted run in it is resumed.
        kind: The kind of that folder.
        name: The name of the run in the progress bar.
        recipe_file: Name of the recipe's file, in the folder and in each checkpoint.
        shown: Names of the metrics that the progress bar shows.
        callbacks: What else is shown and recorded.
        accelerator: The processes that train together; None for this one alone.

    Attributes:
        progress: How far the run has come.
        resumed_at: The step at which `run` started.
    """

    def __init__(
        self,
        trainable: Trainable,
        limits: Limits,
        out: Path,
        *,
        kind: OutputFolder,
        name: str,
        recipe_file: str,
        shown: Sequence[str],
        callbacks: Sequence[Callback] = (),
        accelerator: Accelerator | None = None,
    ) -> None:
        self.trainable, self.limits, self.out, self.kind = trainable, limits, out, kind
        self.name, self.recipe_file, self.shown = name, recipe_file, shown
        self.callbacks = list(callbacks)
        self.accelerator = accelerator if accelerator is not None and accelerator.num_processes > 1 else None
        self.is_main = accelerator is None or accelerator.is_main_process
        self.progress, self.resumed_at = Progress(), 0
        self._logged = Progress()  # at the last row of the metrics log, or where the run was resumed
        self._window: list[Mapping[str, float]] = []  # metrics since that row

    def run(self) -> Progress:
        """Train to the end; nothing is done if the run is there already.

        Raises:
            ValueError: Another process holds the folder, it has other files or cannot be written to, its logs were
                changed, or it holds a run of another recipe or an unfinished one that this version cannot resume.
            CheckpointError: All checkpoints are damaged, or the newest whole one does not fit.
            Interrupted: SIGINT, SIGTERM or SIGUSR1 came; a checkpoint was saved.
            RunError: The training diverged, the disk is full, or another process is gone.
        """
        with self.kind.hold(self.out) if self.is_main else nullcontext():
            if self.is_main:
                self._check_writable()
            self.resume()
            try:
                self._train()
            except OSError as error:
                raise RunError(f"cannot save step {self.progress.step}: {error}; {self._last_good()}") from error
            except RuntimeError as error:
                if self.accelerator is None or not _disconnected(error):
                    raise
                raise RunError(
                    f"process {self.accelerator.process_index} lost another one at step {self.progress.step}, and the "
                    f"run cannot go on without it; {self._last_good()}"
                ) from error
        return self.progress

    def resume(self) -> None:
        """Restore the newest whole checkpoint, if there is one, and drop what was logged after it.

        Raises:
            ValueError: The folder holds a run of another recipe, or an unfinished one of an older version.
            CheckpointError: All checkpoints are damaged, or the newest whole one does not fit.
        """
        root, recipe = self.out / CHECKPOINTS, self.out / self.recipe_file
        found = checkpoint.load_latest(root, self._restore)
        if found is None:
            moved = self._check_recipe(self.trainable.recipe_changes(recipe)) if recipe.exists() else ()
            found = {}, moved
        logs, moved = found
        known = {name: logs.get(name) for name in LOGS}
        for name, state in known.items():  # by every process, so that all leave together
            if state is not None:
                check_log(self.out / name, state)
        if self.is_main:
            warn_of_moves(self._untold(moved))
        self.resumed_at = self.progress.step
        if self.is_main:
            checkpoint.sweep(root)
            for name, state in known.items():
                rewind_log(self.out / name, state, self.progress.step)
            write_json(recipe, self.trainable.recipe_json())

    def step(self, *, measure: bool = False) -> StepResult:
        """Make one optimiser step and count it.

        Raises:
            RunError: The gradient has had no finite value for too many steps.
        """
        before = self.progress
        result = self.trainable.step(before, measure=measure)
        self._window.append(result.metrics)
        self.progress = replace(
            before,
            step=before.step + 1,
            macs=before.macs + result.macs,
            skipped=before.skipped + (not result.finite),
            skipped_in_a_row=0 if result.finite else before.skipped_in_a_row + 1,
        )
        if self.progress.skipped_in_a_row >= MAX_CONSECUTIVE_SKIPS:
            detail = f", {result.detail}" if result.detail else ""
            raise RunError(
                f"diverged: {MAX_CONSECUTIVE_SKIPS} steps in a row had no finite gradient (step {self.progress.step}"
                f"{detail}); try a lower learning rate; {self._last_good()}"
            )
        return result

    def save(self) -> None:
        """Save a checkpoint of the current step, unless there is one, and delete old ones."""
        tensors, files, values = self.trainable.state()
        if self.is_main:
            root, step = self.out / CHECKPOINTS, self.progress.step
            files = {**files, self.recipe_file: self.trainable.recipe_json()}
            if not checkpoint.is_whole(root, step, {*tensors, *files}):
                window = [{name: json_safe(value) for name, value in row.items()} for row in self._window]
                logs = {name: asdict(LogState.of(self.out / name)) for name in LOGS}
                state = {**asdict(self.progress), **values, "window": window, "logs": logs}
                checkpoint.save(root, step, tensors, files, state)
            checkpoint.prune(root, self.limits.keep, step)
            for callback in self.callbacks:
                callback.on_save(self.progress)
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    def _train(self) -> None:
        every, timer = self.limits.checkpoint_every, StepTimer()
        with stop_signals() as received, timer.listening(), self._showing() as bar:
            while self.limits.share_done(self.progress) < 1.0:
                # In trouble, say how large the residual is.
                measure = self._logs(self.progress.step + 1) or self.progress.skipped_in_a_row > 0
                timer.start()
                self.step(measure=measure)
                self.progress = replace(self.progress, seconds=self.progress.seconds + self._elapsed(timer.stop()))
                self._log(bar)
                for callback in self.callbacks:
                    callback.on_step_end(self.progress)
                if every and self.progress.step % every == 0 and self.limits.share_done(self.progress) < 1.0:
                    self.save()  # the last one is saved after all that is logged
                if self._any(bool(received)):
                    self.save()
                    number = received[0] if received else signal.SIGTERM
                    raise Interrupted(
                        f"stopped by {signal.Signals(number).name} at step {self.progress.step}; a checkpoint is "
                        "saved, and the same command resumes the run",
                        number,
                    )
            for callback in self.callbacks:
                callback.on_train_end(self.progress)
            self.save()

    def _restore(self, found: checkpoint.Checkpoint) -> tuple[dict[str, LogState], Sequence[str]]:
        """Restore the state of a checkpoint; return what it has recorded of the logs, and what has moved since."""
        try:
            changes = self.trainable.recipe_changes(found.file(self.recipe_file))
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        moved = self._check_recipe(changes)
        version = found.value("format", int)
        old = version < checkpoint.FORMAT
        if old and self.limits.share_done(found.progress) < 1.0:
            raise ValueError(
                f"{self.out} holds an unfinished run of fpdm {checkpoint.OLD_FORMATS[version]}, which "
                "took the images in another order; finish it with that version, or train anew in another folder"
            )
        progress, window = found.progress, [] if old else found.value("window", list[dict[str, float | None]])
        logs = found.value("logs", dict[str, LogState]) if "logs" in found.state else {}
        self.trainable.load_state(found)
        self.progress = progress
        self._window = [
            {name: float("nan") if value is None else value for name, value in row.items()} for row in window
        ]
        return logs, moved

    def _check_writable(self) -> None:
        """Check, before anything is computed, whatever the run will write to later."""
        check_writable(self.out, LOGS)
        for folder in (self.out / name for name in FOLDERS):
            if os.path.lexists(folder):
                check_writable(folder)

    def _untold(self, moved: Sequence[str]) -> Sequence[str]:
        """Leave out the moves that the folder's recipe knows, because an earlier call has told of them."""
        recipe = self.out / self.recipe_file
        if not moved or not recipe.exists():
            return moved
        try:
            return self.trainable.recipe_changes(recipe).moved
        except ValueError:  # a damaged one is written again
            return moved

    def _check_recipe(self, changes: RecipeChanges) -> Sequence[str]:
        """Refuse another recipe; return what has moved."""
        if changes.refused:
            changed = "; ".join(changes.refused)
            raise ValueError(f"{self.out} holds a run of another recipe ({changed}); choose another folder")
        return changes.moved

    def _log(self, bar: ProgressBar) -> None:
        if self._logs(self.progress.step):
            steps = self.progress.step - self._logged.step
            figures = {
                **self.trainable.summarize(self._window),
                "learning_rate": self.limits.rate(self.progress),
                "seconds_per_step": (self.progress.seconds - self._logged.seconds) / steps,
            }
            if self.is_main:
                append_row(self.out / METRICS, {**asdict(self.progress), **figures})
                for callback in self.callbacks:
                    callback.on_log(self.progress, figures)
                bar.note = self._note(figures)
            self._logged = self.progress
            self._window.clear()
        bar.set(self.progress.step, self.limits.share_done(self.progress))

    def _logs(self, step: int) -> bool:
        return step % self.limits.log_every == 0

    def _elapsed(self, seconds: float) -> float:
        """Return what the main process measured, where the clock decides on the end and the learning rate.

        The others' steps include the time that they wait while the main process shows something.
        """
        return self._sum(seconds if self.is_main else 0.0) if self.limits.seconds else seconds

    def _any(self, flag: bool) -> bool:
        """Whether any process says so: signals reach them at different times, and all must leave at the same step."""
        return self._sum(float(flag)) > 0.0

    def _sum(self, value: float) -> float:
        if self.accelerator is None:
            return value
        total = self.accelerator.reduce(torch.tensor([value], dtype=torch.float64, device=self.accelerator.device))
        assert isinstance(total, Tensor)
        return total.item()

    @contextmanager
    def _showing(self) -> Iterator[ProgressBar]:
        self._logged = self.progress
        for callback in self.callbacks:
            callback.on_train_begin(self.progress)
        try:
            steps = self.limits.steps or None
            with progress_bar(self.name, steps, "steps", leave=True, shown=self.is_main) as bar:
                bar.set(self.progress.step, self.limits.share_done(self.progress))
                bar.skip(0)  # what an earlier call has trained
                yield bar
        finally:
            for callback in self.callbacks:
                callback.close()

    def _note(self, figures: Mapping[str, float]) -> str:
        words = [f"{name} {figures[name]:.3g}" for name in self.shown if np.isfinite(figures[name])]
        share = figures.get("waiting_seconds", 0.0) / max(figures.get("seconds_per_step", 0.0), 1e-9)
        return ", ".join([*words, *([f"{share:.0%} waiting for data"] if share > 0.05 else [])])

    def _last_good(self) -> str:
        return f"last good checkpoint: {checkpoint.last_good(self.out / CHECKPOINTS)}"


def means(window: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's mean over steps."""
    # A checkpoint of an earlier version has rows without the newer metrics.
    return {name: float(np.mean([row[name] for row in window if name in row])) for name in window[-1]}


def _disconnected(error: RuntimeError) -> bool:
    """Whether the processes no longer reach each other; gloo has no error class for that."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
