"""Say what came out of a training: how far it is from noise, and what to do next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch

from fpdm.data.dataset import Examples
from fpdm.diffusion.schedule import Schedule
from fpdm.runs.layout import SAMPLES, VALIDATION
from fpdm.runs.metrics_log import read_rows
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.training.validation import middles

STILL_NOISE = 0.9  # of the loss of noise
KNOWN = 1024  # training images from which the loss of noise is computed


@dataclass(frozen=True)
class Outcome:
    """The result of a training.

    Attributes:
        steps: Number of steps.
        images_seen: Number of images that they took, many of them repeatedly.
        validation_loss: Loss on the validation images at the end; None if it was not measured.
        noise_loss: The same of a network that knows each pixel by itself, whose images are noise in the right colours;
            None where it cannot be compared.
        out: The run's folder.
    """

    steps: int
    images_seen: int
    validation_loss: float | None
    noise_loss: float | None
    out: Path

    @property
    def still_noise(self) -> bool:
        """Whether the images are hardly better than noise."""
        return (
            self.validation_loss is not None
            and self.noise_loss is not None
            and not self.validation_loss < STILL_NOISE * self.noise_loss
        )

    def to_text(self) -> str:
        """Describe the outcome, warn of what is wrong, and give the next command."""
        out, images = shlex.quote(str(self.out)), shlex.quote(f"{self.out}-images")
        lines = [f"  learned   {self.steps:,} steps, which saw {self.images_seen:,} images, counting repeats"]
        if self.validation_loss is not None:
            noise = f"; {self.noise_loss:.3f} is noise in the right colours" if self.noise_loss is not None else ""
            lines.append(f"  loss      {self.validation_loss:.3f} on images that were not trained on{noise}")
        if self.still_noise:
            lines.append(
                "  warning   the images are still noise: train longer, with the same command and more --minutes"
            )
        if (self.out / SAMPLES).is_dir():
            lines.append(f"  samples   the newest in {self.out / SAMPLES}")
        lines.append(f"  next      fpdm sample {out} --out {images}")
        return "\n".join(lines)


def outcome(out: Path, recipe: Recipe, progress: Progress, data: Examples) -> Outcome:
    """Read what came out of a training that has reached its end.

    Args:
        out: The run's folder.
        recipe: Its recipe.
        progress: How far it came.
        data: The training images, or their latents.

    Raises:
        ValueError: The log of the validation loss is damaged.
    """
    train, rows = recipe.train, read_rows(out / VALIDATION)
    comparable = train.weighting == "uniform" and not recipe.model.learn_variance and recipe.schedule.prediction == "v"
    return Outcome(
        steps=progress.step,
        images_seen=progress.step * train.batch_size,
        validation_loss=rows[-1]["loss"] if rows else None,
        noise_loss=noise_loss(recipe.schedule, data) if rows and comparable else None,
        out=out,
    )


def noise_loss(schedule: Schedule, data: Examples) -> float:
    """Return the least loss on v of a network that sees each pixel by itself: it knows the mean and the spread of each.

    For pixels x0 of variance q, independent of each other, the best estimate of v = a eps - s x0 from x = a x0 + s eps
    has the error q / (a^2 q + s^2). The mean is over pixels and the timesteps of the validation loss.

    Args:
        schedule: The noise schedule.
        data: Images, or their latents.
    """
    x0, _ = data.batch(range(min(len(data), KNOWN)))  # (N, C, H, W)
    variance = x0.double().var(0, correction=0)  # (C, H, W)
    a, s = schedule.signal(torch.tensor(middles(schedule)))  # (T, 1, 1, 1) each
    error = variance / (a.double().square() * variance + s.double().square())  # (T, C, H, W)
    return error.mean().item()
