"""The training of an autoencoder, in one process: reconstruction error + KL, resumed bit-exactly by the same call."""

from __future__ import annotations

import copy
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from fpdm.autoencoder.interface import BLACK
from fpdm.data.images import ImageSet
from fpdm.data.index_sampler import indices
from fpdm.devices import default_device
from fpdm.errors import Interrupted, RunError
from fpdm.files import lock, write_atomically
from fpdm.randomness import Stream, generator
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, EMA, METRICS, MODEL, OPTIMIZER
from fpdm.runs.metrics_log import append_row, drop_rows_after, json_safe
from fpdm.runs.progress import Progress
from fpdm.signals import stop_signals
from fpdm.training.autoencoder.config import AutoencoderRecipe
from fpdm.training.optimizer_state import load_optimizer_state, optimizer_state
from fpdm.training.timer import StepTimer
from fpdm.training.trainer import MAX_SKIPPED

RECIPE = "training.json"


class AutoencoderMetrics(NamedTuple):
    """What a step measured.

    Attributes:
        loss: What was minimised.
        error: Its part from the reconstructions: the mean over pixels in [-1, 1].
        kl: The KL divergence of an image's latents, summed over them, in nats; the mean over images.
        grad_norm: Before clipping.
    """

    loss: float
    error: float
    kl: float
    grad_norm: float


class AutoencoderTrainer:
    """Trains an autoencoder in a folder.

    Args:
        recipe: What to train.
        data: The training images.
        out: The folder; an interrupted training in it is resumed.
        device: Where to train; None picks CUDA, MPS or the CPU.

    Attributes:
        progress: How far the training has come.
        resumed_at: The step that `train` began with.
        macs: Multiply-accumulates of encoding and decoding an image.

    Raises:
        ValueError: The images do not fit the network.
    """

    def __init__(
        self, recipe: AutoencoderRecipe, data: ImageSet, out: Path, *, device: torch.device | None = None
    ) -> None:
        self.recipe, self.data, self.out, self.device = recipe, data, out, device or default_device()
        config = recipe.train
        self.latent_shape = recipe.shape.latent_shape(data.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            # Any: diffusers says of what its networks return that it is a tuple.
            self.model: Any = recipe.shape.build(data.shape)
        self.model.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.ema = EMAModel(self.model.parameters(), decay=config.ema_decay)
        self.ema.to(self.device)
        self.macs = self._count_macs()
        self.progress, self.resumed_at = Progress(), 0
        self.window: list[AutoencoderMetrics] = []  # since the last row of metrics

    def train(self) -> Progress:
        """Train to the recipe's end; nothing is done if the training is there already.

        Raises:
            ValueError: Another process holds the folder, or it holds another training.
            CheckpointError: All checkpoints are damaged, or the newest whole one does not fit.
            Interrupted: A signal came; a checkpoint was saved.
            RunError: The gradient stayed without a finite value, or the disk is full.
        """
        with lock(self.out):
            self._resume()
            try:
                self._run()
            except OSError as error:
                raise RunError(
                    f"cannot save step {self.progress.step}: {error}; last good checkpoint: "
                    f"{checkpoint.last_good(self.out / CHECKPOINTS)}"
                ) from error
        return self.progress

    def averaged(self) -> torch.nn.Module:
        """A copy of the network with the averaged weights, in evaluation mode."""
        model = copy.deepcopy(self.model)
        self.ema.copy_to(model.parameters())
        return model.eval()

    def _run(self) -> None:
        config, clock = self.recipe.train, StepTimer()
        with stop_signals() as received, clock.listening(), self._bar() as bar:
            while config.share_done(self.progress) < 1.0:
                clock.start()
                metrics = self._step()
                step = self.progress.step + 1
                self.progress = replace(
                    self.progress,
                    step=step,
                    seconds=self.progress.seconds + clock.stop(),
                    macs=self.progress.macs + 3 * config.batch_size * self.macs,  # backward is two forward
                )
                self._note(metrics, bar)
                if config.checkpoint_every and step % config.checkpoint_every == 0:
                    self._save()
                if received:
                    self._save()
                    raise Interrupted(
                        f"stopped by {signal.Signals(received[0]).name} at step {step}; a checkpoint is saved, and the "
                        "same command goes on from it",
                        received[0],
                    )
            self._save()

    def _step(self) -> AutoencoderMetrics:
        config, pad = self.recipe.train, self.recipe.shape.pad
        images, noise = self._batch()  # (B, C, H, W), (B, c, h, w)
        posterior = self.model.encode(F.pad(images, [pad] * 4, value=BLACK)).latent_dist
        latents = posterior.mean + posterior.std * noise  # (B, c, h, w)
        # What becomes of the padding does not matter: it is cut off.
        made = F.pad(self.model.decode(latents).sample, [-pad] * 4)  # (B, C, H, W)
        error = (F.l1_loss if config.reconstruction == "l1" else F.mse_loss)(made, images)
        kl = posterior.kl().mean()
        loss = error + config.kl_weight * kl / images[0].numel()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm).item()
        self._update(finite=bool(np.isfinite(norm)))
        return AutoencoderMetrics(loss.item(), error.item(), kl.item(), norm)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and noise (B, c, h, w): each a function of the seed and its position in the training."""
        seed, count = self.recipe.train.seed, self.recipe.train.batch_size
        first = self.progress.step * count
        draws = [generator(seed, Stream.TRAIN, first + i) for i in range(count)]
        places = indices(len(self.data), seed=seed, first=first, count=count)
        images, _ = self.data.batch(places, draws, flip=self.recipe.data.flip)  # (B, C, H, W)
        noise = np.stack([rng.standard_normal(self.latent_shape, dtype=np.float32) for rng in draws])  # (B, c, h, w)
        return images.to(self.device), torch.from_numpy(noise).to(self.device)

    def _update(self, *, finite: bool) -> None:
        progress = self.progress
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.train.rate(progress)
            self.optimizer.step()
            self.ema.step(self.model.parameters())
        self.optimizer.zero_grad()
        self.progress = replace(
            progress,
            skipped=progress.skipped + (not finite),
            skipped_in_a_row=0 if finite else progress.skipped_in_a_row + 1,
        )
        if self.progress.skipped_in_a_row >= MAX_SKIPPED:
            raise RunError(
                f"diverged: {MAX_SKIPPED} steps in a row had no finite gradient (step {progress.step + 1}); try "
                f"a lower learning rate; last good checkpoint: {checkpoint.last_good(self.out / CHECKPOINTS)}"
            )

    def _note(self, metrics: AutoencoderMetrics, bar: tqdm[Any]) -> None:
        self.window.append(metrics)
        if self.progress.step % self.recipe.train.log_every == 0:
            means = AutoencoderMetrics(*np.mean(self.window, axis=0).tolist())
            rate = self.recipe.train.rate(self.progress)
            append_row(self.out / METRICS, {**asdict(self.progress), **means._asdict(), "learning_rate": rate})
            bar.set_postfix_str(f"{self.recipe.train.reconstruction} error {means.error:.4f}, KL {means.kl:.0f} nats")
            self.window.clear()
        bar.update(1)

    def _resume(self) -> None:
        path = self.out / RECIPE
        if not path.exists():
            others = sorted(one.name for one in self.out.iterdir() if not one.name.startswith("."))
            if others:
                raise ValueError(f"{self.out} holds other files ({others[0]}, say); choose another folder")
        elif changed := self.recipe.changed(path):
            raise ValueError(f"{self.out} holds another training ({'; '.join(changed)}); choose another folder")
        found = checkpoint.latest(self.out / CHECKPOINTS)
        if found is not None:
            self._restore(found)
        self.resumed_at = self.progress.step
        drop_rows_after(self.out / METRICS, self.progress.step)
        write_atomically(path, self.recipe.to_json())

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        names = dict(self.model.named_parameters())
        weights, averaged = found.tensors(MODEL), found.tensors(EMA)
        for name, tensors in ((MODEL, weights), (EMA, averaged)):
            checkpoint.check_names(found.path / name, tensors, names)
        self.model.load_state_dict(weights)
        self.ema.shadow_params = [averaged[name].to(self.device) for name in names]
        self.ema.optimization_step = found.state["ema_updates"]
        load_optimizer_state(names.items(), self.optimizer, found.tensors(OPTIMIZER))
        self.progress = Progress(**{key: found.state[key] for key in asdict(Progress())})
        self.window = [
            AutoencoderMetrics(*(float("nan") if value is None else value for value in row))
            for row in found.state["window"]
        ]

    def _save(self) -> None:
        root, step = self.out / CHECKPOINTS, self.progress.step
        if not checkpoint.is_whole(root, step):
            names = dict(self.model.named_parameters())
            tensors = {
                MODEL: names,
                EMA: dict(zip(names, self.ema.shadow_params, strict=True)),
                OPTIMIZER: optimizer_state(names.items(), self.optimizer),
            }
            state = {
                **asdict(self.progress),
                "ema_updates": self.ema.optimization_step,
                "window": [[json_safe(value) for value in row] for row in self.window],
            }
            checkpoint.save(root, step, tensors, {RECIPE: self.recipe.to_json()}, state)
        checkpoint.prune(root, self.recipe.train.keep, step)

    @torch.no_grad()
    def _count_macs(self) -> int:
        pad = self.recipe.shape.pad
        image = F.pad(torch.zeros(1, *self.data.shape, device=self.device), [pad] * 4)  # (1, C, H, W)
        with FlopCounterMode(display=False) as counter:
            self.model.decode(self.model.encode(image).latent_dist.mean)
        return counter.get_total_flops() // 2

    def _bar(self) -> tqdm[Any]:
        return tqdm(
            total=self.recipe.train.steps or None,
            initial=self.progress.step,
            desc="autoencoder",
            unit=" steps",
            dynamic_ncols=True,
            disable=None,  # only on a terminal
        )
