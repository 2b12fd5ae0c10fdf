"""Train a diffusion model, on accelerate: one process or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor

from fpdm.configuration import moves
from fpdm.data.dataset import Examples
from fpdm.errors import CheckpointError
from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.fixed_point.solve import mean_iterations
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, generator, normal
from fpdm.runs import checkpoint
from fpdm.runs.data_card import with_images
from fpdm.runs.layout import CHECKPOINTS, RECIPE, RUN
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import PLACES, Recipe, differences
from fpdm.runs.run import read_classes
from fpdm.training.batch import Batch, make_batch
from fpdm.training.callbacks import TrainingLogger
from fpdm.training.loop import RecipeChanges, SavedState, StepResult, Trainable, TrainingLoop, means
from fpdm.training.memory import check_fits
from fpdm.training.prefetch import Prefetcher
from fpdm.training.run_card import describe_run
from fpdm.training.sharding import check_sharding, gather_full
from fpdm.training.tracker import make_accelerator
from fpdm.training.train_state import TrainState
from fpdm.training.warm_start import known_start, warm_start


class MicroBatch(NamedTuple):
    """Measurements of one micro-batch; the tensors have no dimension and are still on the device."""

    loss: Tensor
    mse: Tensor
    iterations: float
    no_grad_iterations: float
    residual: Tensor | None


class Weaker(NamedTuple):
    """The weaker answer of a step that is trained beside its own, if there is one.

    Attributes:
        depth: Depth of a weaker answer (`weak_weight`).
        exit_at: Place of an early exit (`exit_weight`).
        teacher: Share of its loss in which the step's own answer is the target.
    """

    depth: int | None
    exit_at: float | None
    teacher: float


class Trainer(Trainable):
    """Trains a recipe in a folder.

    Args:
        recipe: What to train.
        data: The training images, or their latents.
        out: The run's folder; an interrupted run in it is resumed.
        validation: Images that are not trained on, for the validation loss; None or empty for none.
        command: The command line, for the run's README.

    Raises:
        ValueError: The data does not fit the model, the batch does not divide among processes and micro-batches, or
            the tracker's library is missing.
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
        processes = self.accelerator.num_processes
        micro_batch = config.micro_batch(processes)  # raises before anything is made, as the next does
        check_fits(recipe, micro_batch, device=str(self.accelerator.device), processes=processes)
        self.gradient, self.objective = config.make_gradient(), config.make_objective()
        set_seed(config.seed)
        self.model = DiffusionTransformer.from_shape(recipe.model, iterations=config.mean_iterations)
        if not checkpoint.exist(out / CHECKPOINTS):  # a resumed run has its own weights
            self.recipe = recipe = warm_start(self.model, recipe)
        self.model.checkpoint_activations(config.activation_checkpointing)
        self.cost = self.model.cost()
        self.batches = Prefetcher(self._make_batch)
        self.weak_depth = self.cost.middle.weak_depth if self.objective.weak else None
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        check_sharding(self.accelerator)
        self.net, self.stepper = self.accelerator.prepare(self.model, self.optimizer)
        if config.compile:
            self.model.compile_iterations()  # raises where there is no compiler
        # Made from the prepared weights: on their device, and sharded as they are. All at once takes fewer kernels.
        on_gpu = self.accelerator.device.type == "cuda"
        self.ema = EMAModel(self.model.parameters(), decay=config.ema_decay, foreach=on_gpu)
        self.train_state = TrainState(self.model, self.optimizer, self.ema)
        self.logger = TrainingLogger(recipe, out, self.accelerator, self.train_state, validation, self._readme)
        self.loop = TrainingLoop(
            self,
            config,
            out,
            kind=RUN,
            name=recipe.name,
            recipe_file=RECIPE,
            shown=("loss", "iterations", "residual"),
            callbacks=[self.logger],
            accelerator=self.accelerator,
        )

    @property
    def progress(self) -> Progress:
        """Progress of the run."""
        return self.loop.progress

    @property
    def resumed_at(self) -> int:
        """The step at which `train` started."""
        return self.loop.resumed_at

    def train(self) -> Progress:
        """Train to the recipe's end; nothing is done if the run is there already.

        Raises:
            ValueError: As `TrainingLoop.run`, as are all others.
            CheckpointError: The newest checkpoint does not fit, or all are damaged.
            Interrupted: A signal came; a checkpoint was saved.
            RunError: The run cannot go on.
        """
        return self.loop.run()

    def step(self, progress: Progress, *, measure: bool = False, micro_batch: int | None = None) -> StepResult:
        """Make the optimiser step that follows `progress`.

        Args:
            progress: How far the run has come.
            measure: Measure the residual of the fixed point too.
            micro_batch: Images that a process takes at once; None for the recipe's.

        Returns:
            The metrics: loss, mse (unweighted, on v), grad_norm (before clipping), iterations of the middle (mean per
            image), the largest residual of the fixed point (nan where it was not measured), and waiting_seconds for
            the batch.
        """
        config = self.recipe.train
        count = micro_batch or config.micro_batch(self.accelerator.num_processes)
        total = count * config.accumulate * self.accelerator.num_processes
        first = progress.step * total + self.accelerator.process_index * config.accumulate * count
        # The same n and m for all micro-batches.
        solver = self.gradient.bind(config.seed, progress.step, measure=measure)
        weaker = self._weaker(progress)
        waited = self.batches.waited
        parts = [
            self._backward(first + i * count, count, solver, weaker, last=i + 1 == config.accumulate)
            for i in range(config.accumulate)
        ]
        norm = self._update(config.rate(progress))
        iterations = _mean(part.iterations for part in parts)
        no_grad, weak = _mean(part.no_grad_iterations for part in parts), None
        if self.weak_depth is not None:
            weak = self.cost.middle.weak_iterations(self.weak_depth, cold=not (no_grad or config.random_start))
        exits = self.cost.middle.has_exit(iterations - no_grad) if weaker.exit_at is not None else False
        macs = self.cost.training_macs(iterations, no_grad, weak_iterations=weak, exits=exits)
        known = [float(part.residual) for part in parts if part.residual is not None]
        loss, mse, residual = self._over_processes(
            _mean(float(part.loss) for part in parts),
            _mean(float(part.mse) for part in parts),
            float(np.max(known)) if known else float("nan"),  # nan in one is nan here
        )
        return StepResult(
            {
                "loss": loss,
                "mse": mse,
                "grad_norm": norm,
                "iterations": iterations,
                "residual": residual,
                "waiting_seconds": self.batches.waited - waited,
            },
            macs=total * macs,
            finite=bool(np.isfinite(norm)),
            detail=f"residual of the fixed point {residual:.2g}" if known else "",
        )

    def summarize(self, window: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {**means(window), "residual": window[-1]["residual"]}  # measured in the last step only

    def recipe_json(self) -> str:
        return self.recipe.to_json()

    def recipe_changes(self, saved: Path) -> RecipeChanges:
        try:
            before = with_images(Recipe.read(saved), self.out)
        except ValueError as error:
            raise ValueError(f"{error}; correct it, or choose another folder") from error
        try:
            self.recipe = replace(self.recipe, start=known_start(self.recipe.start, before.start))
        except (ValueError, CheckpointError) as error:  # which is no fault of the run's own checkpoint
            return RecipeChanges([str(error)])
        return RecipeChanges(differences(before, self.recipe), moves(before, self.recipe, PLACES))

    def state(self) -> SavedState:
        config, scaler = self.model.to_json_string(), self.accelerator.scaler
        values = {**self.train_state.values(), "scaler": None if scaler is None else scaler.state_dict()}
        return SavedState(self.train_state.tensors(), {"model/config.json": config, "ema/config.json": config}, values)

    def load_state(self, found: checkpoint.Checkpoint) -> None:
        self.train_state.load(found)
        if self.accelerator.scaler is not None:
            scaler = found.value("scaler", dict[str, int | float])
            if scaler.keys() != self.accelerator.scaler.state_dict().keys():
                raise CheckpointError(f"{found.path} is damaged: its scaler has {', '.join(scaler) or 'nothing'}")
            self.accelerator.scaler.load_state_dict(scaler)

    def _over_processes(self, loss: float, mse: float, residual: float) -> tuple[float, float, float]:
        """Return the mean losses and the largest residual of all processes."""
        if self.accelerator.num_processes == 1:
            return loss, mse, residual
        mine = torch.tensor([[loss, mse, residual]], device=self.accelerator.device)  # (1, 3)
        gathered = self.accelerator.gather(mine)
        assert isinstance(gathered, Tensor)
        every = gathered.double().cpu().numpy()  # (P, 3)
        return float(every[:, 0].mean()), float(every[:, 1].mean()), float(every[:, 2].max())

    def _weaker(self, progress: Progress) -> Weaker:
        config = self.recipe.train
        if not self.objective.exit:
            return Weaker(self.weak_depth, None, 0.0)
        at = generator(config.seed, Stream.EXIT, 0, progress.step).random()
        return Weaker(None, at, min(config.share_done(progress), 1.0))

    def _backward(self, first: int, count: int, solver: FixedPointSolver, weaker: Weaker, *, last: bool) -> MicroBatch:
        """Add the gradient of the micro-batch at positions `first` .. `first + count - 1` to those before it."""
        config = self.recipe.train
        # With its last micro-batch of a step, a process skips those of the others.
        skipped = (self.accelerator.num_processes - 1) * config.accumulate * count if last else 0
        batch = self.batches.take(first, count, first + count + skipped)
        x0, eps, t, y = (tensor.to(self.accelerator.device) for tensor in batch)
        x = self.recipe.schedule.add_noise(x0, eps, t)  # (B, C, H, W)
        z0 = self._start(first, count)  # (B, T, D) or None
        # The processes exchange their gradients once a step, with the last micro-batch.
        with nullcontext() if last else self.accelerator.no_sync(self.net):
            with self.accelerator.autocast():
                prediction = self.net(x, t, y, solver=solver, z0=z0, weak_depth=weaker.depth, exit_at=weaker.exit_at)
            loss = self.objective.loss(
                self.recipe.schedule,
                prediction.value,
                prediction.variance,
                x,
                x0,
                eps,
                t,
                weak=prediction.weak,
                teacher=weaker.teacher,
            )
            self.accelerator.backward(loss.total.mean() / config.accumulate)
        solution = prediction.solution
        return MicroBatch(
            loss=loss.total.detach().mean(),
            mse=loss.mse.detach().mean(),
            iterations=mean_iterations(solution.iters),
            no_grad_iterations=mean_iterations(solution.no_grad_iters),
            residual=None if solution.residual is None else solution.residual.max(),
        )

    def _start(self, first: int, count: int) -> Tensor | None:
        scale, shape = self.recipe.train.random_start, self.recipe.model
        if not scale:
            return None
        indices = range(first, first + count)
        z0 = normal((shape.tokens, shape.width), seed=self.recipe.train.seed, stream=Stream.START, indices=indices)
        return scale * z0.to(self.accelerator.device)  # (B, T, D)

    def _make_batch(self, first: int, count: int) -> Batch:
        """Make the batch at the positions `first` .. `first + count - 1`, which depends on these alone."""
        return make_batch(
            self.data,
            seed=self.recipe.train.seed,
            first=first,
            count=count,
            schedule=self.recipe.schedule,
            num_classes=self.recipe.model.num_classes,
            label_dropout=self.recipe.train.label_dropout,
            flip=self.recipe.data.flip,
        )

    def _update(self, rate: float) -> float:
        """Update the weights by the gradient, if it is finite; return its norm."""
        # The norm is of the gradient averaged over the processes: either all of them skip the step or none does.
        norm = self.accelerator.clip_grad_norm_(self.net.parameters(), self.recipe.train.clip_norm)
        norm = gather_full(torch.as_tensor(norm)).item()
        finite = bool(np.isfinite(norm))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if finite or self.accelerator.scaler is not None:
            # The scaler of fp16 gradients skips the step by itself, and adapts its scale.
            self.stepper.step()
        if finite:
            self.ema.step(self.model.parameters())
        self.stepper.zero_grad()
        return norm

    def _readme(self) -> str:
        device = self.accelerator.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return describe_run(
            self.recipe,
            self.cost,
            self.data,
            self.validation,
            out=self.out,
            classes=read_classes(self.out, self.recipe).names,
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


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
