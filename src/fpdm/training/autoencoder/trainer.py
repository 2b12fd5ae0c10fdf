"""Train an autoencoder in one process, on its reconstruction error and a KL term."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fpdm.autoencoder.interface import BLACK
from fpdm.configuration import moves
from fpdm.data.images import ImageSet
from fpdm.data.index_sampler import indices
from fpdm.data.splits import counted
from fpdm.devices import default_device
from fpdm.memory import check_memory
from fpdm.randomness import Stream, generator
from fpdm.runs import checkpoint
from fpdm.runs.progress import Progress
from fpdm.training.autoencoder.config import AUTOENCODER, PLACES, RECIPE, AutoencoderRecipe, AutoencoderShape
from fpdm.training.loop import RecipeChanges, SavedState, StepResult, Trainable, TrainingLoop, means
from fpdm.training.train_state import TrainState


def check_fits(shape: AutoencoderShape, samples: int, image: tuple[int, int, int], *, device: torch.device) -> None:
    """Check, before anything is allocated, that training steps on so many images (C, H, W) fit in memory, counted low.

    Raises:
        ValueError: They do not, or the images do not fit the network.
    """
    shape.latent_shape(image)
    for count, what, instead in (
        (0, "the training of this autoencoder", "fewer --stage-channels, --layers or --latent-channels"),
        (samples, f"a training step of {counted(samples, 'image')}", "a smaller --batch-size, --size or --pad"),
    ):
        check_memory(shape.training_memory(image, count), what, instead, device=str(device))


class AutoencoderTrainer(Trainable):
    """Trains an autoencoder in a folder.

    Args:
        recipe: What to train.
        data: The training images.
        out: The folder; an interrupted training in it is resumed.
        device: Where to train; None picks CUDA, MPS or the CPU.

    Attributes:
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
        check_fits(recipe.shape, config.batch_size, data.shape, device=self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            # Any: diffusers types what its networks return as a tuple.
            self.model: Any = recipe.shape.build(data.shape)
        self.model.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.ema = EMAModel(self.model.parameters(), decay=config.ema_decay)
        self.ema.to(self.device)
        self.train_state = TrainState(self.model, self.optimizer, self.ema)
        self.macs = self._count_macs()
        self.loop = TrainingLoop(
            self, config, out, kind=AUTOENCODER, name="autoencoder", recipe_file=RECIPE, shown=("error", "kl")
        )

    @property
    def progress(self) -> Progress:
        """Progress of the training."""
        return self.loop.progress

    @property
    def resumed_at(self) -> int:
        """The step at which `train` started."""
        return self.loop.resumed_at

    def train(self) -> Progress:
        """Train to the recipe's end; nothing is done if the training is there already.

        Raises:
            ValueError: The folder holds other files, or as `TrainingLoop.run`, as are all others.
            CheckpointError: The newest checkpoint does not fit, or all are damaged.
            Interrupted: A signal came; a checkpoint was saved.
            RunError: The training cannot go on.
        """
        return self.loop.run()

    def averaged(self) -> torch.nn.Module:
        """Return a copy of the network with the averaged weights, in evaluation mode."""
        model = copy.deepcopy(self.model)
        self.ema.copy_to(model.parameters())
        return model.eval()

    def step(self, progress: Progress, *, measure: bool = False) -> StepResult:
        """Make the optimiser step that follows `progress`.

        Returns:
            The metrics: loss, error (of the reconstructions, mean over pixels in [-1, 1]), kl (of an image's latents,
            summed over them, in nats; mean over images) and grad_norm (before clipping).
        """
        config, pad = self.recipe.train, self.recipe.shape.pad
        images, noise = self._batch(progress.step * config.batch_size)  # (B, C, H, W), (B, c, h, w)
        posterior = self.model.encode(F.pad(images, [pad] * 4, value=BLACK)).latent_dist
        latents = posterior.mean + posterior.std * noise  # (B, c, h, w)
        # The padding is cut off again, so its reconstruction does not matter.
        made = F.pad(self.model.decode(latents).sample, [-pad] * 4)  # (B, C, H, W)
        error = (F.l1_loss if config.reconstruction == "l1" else F.mse_loss)(made, images)
        kl = posterior.kl().mean()
        loss = error + config.kl_weight * kl / images[0].numel()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm).item()
        finite = bool(np.isfinite(norm))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = config.rate(progress)
            self.optimizer.step()
            self.ema.step(self.model.parameters())
        self.optimizer.zero_grad()
        metrics = {"loss": loss.item(), "error": error.item(), "kl": kl.item(), "grad_norm": norm}
        # A backward pass counts as two forward ones.
        return StepResult(metrics, macs=3 * config.batch_size * self.macs, finite=finite)

    def summarize(self, window: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return means(window)

    def recipe_json(self) -> str:
        return self.recipe.to_json()

    def recipe_changes(self, saved: Path) -> RecipeChanges:
        before = AutoencoderRecipe.read(saved)
        return RecipeChanges(self.recipe.changes(before), moves(before, self.recipe, PLACES))

    def state(self) -> SavedState:
        return SavedState(self.train_state.tensors(), {}, self.train_state.values())

    def load_state(self, found: checkpoint.Checkpoint) -> None:
        self.train_state.load(found)

    def _batch(self, first: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and noise (B, c, h, w), each a function of the seed and its position in the training."""
        seed, count = self.recipe.train.seed, self.recipe.train.batch_size
        draws = [generator(seed, Stream.TRAIN, first + i) for i in range(count)]
        places = indices(len(self.data), seed=seed, first=first, count=count)
        images, _ = self.data.batch(places, draws, flip=self.recipe.data.flip)  # (B, C, H, W)
        noise = np.stack([rng.standard_normal(self.latent_shape, dtype=np.float32) for rng in draws])  # (B, c, h, w)
        return images.to(self.device), torch.from_numpy(noise).to(self.device)

    @torch.no_grad()
    def _count_macs(self) -> int:
        pad = self.recipe.shape.pad
        image = F.pad(torch.zeros(1, *self.data.shape, device=self.device), [pad] * 4)  # (1, C, H, W)
        with FlopCounterMode(display=False) as counter:
            self.model.decode(self.model.encode(image).latent_dist.mean)
        return counter.get_total_flops() // 2
