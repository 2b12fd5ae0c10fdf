"""Train on a folder of images as it was chosen: its autoencoder first, where latents serve, then the model."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.data.config import CacheSettings
from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset, load_images
from fpdm.data.prepare import prepare
from fpdm.data.survey import survey
from fpdm.errors import printable
from fpdm.files import write_json
from fpdm.runs.layout import CHOICE, CONFIG, OWN_AUTOENCODER, OWN_LATENTS
from fpdm.runs.recipe import Recipe
from fpdm.training.autoencoder.finalise import reconstructed, reconstruction_error, save_scaled
from fpdm.training.autoencoder.trainer import AutoencoderTrainer
from fpdm.training.choice import Choice, Space, check_enough, choose
from fpdm.training.speed import MeasuredSpeed

SHOWN = 200  # images on which the autoencoder's error is measured


def decide(
    settings: Recipe,
    out: Path | None,
    *,
    given: frozenset[str],
    space: Space,
    whole: float | None = None,
    started: float = math.inf,
) -> Choice:
    """Return how to train on the folder of images of a recipe: as chosen before if a run was started, else chosen now.

    Args:
        settings: The recipe of the model wanted, with the values that the user gives and the seconds of training.
        out: The run's folder, where a choice may have been recorded; None for a dry run.
        given: Names of the options that the user gives.
        space: Whether to train on pixels or on latents; empty to choose.
        whole: Seconds in which all is to be done; None if only the steps count.
        started: When that began, by `time.monotonic`; infinite if that does not matter.

    Raises:
        ValueError: As `choose` and `survey` raise it, or the recorded choice is damaged.
    """
    seconds = settings.train.seconds
    before = None if out is None else Choice.read(out / CHOICE)
    if before is not None:
        if "minutes" in given:
            seconds -= before.left_out
        return before.changed(settings, given, seconds if given & {"minutes", "seconds"} else before.seconds)
    folder = settings.data.folder
    assert folder is not None
    found, speed = survey(folder), MeasuredSpeed(settings)
    check_enough(found)
    print(f"timing a few steps for {printable(folder)} on this machine ...", file=sys.stderr, flush=True)
    speed.images_per_second(settings)  # measured here, so that what is left is known
    spent = max(time.monotonic() - started, 0.0)
    return choose(settings, found, seconds, speed, given=given, space=space, whole=whole, spent=spent)


@dataclass(frozen=True)
class OwnImages:
    """The images of a run that was chosen, and their latents in its folder where they serve.

    Attributes:
        choice: How to train.
        out: The run's folder.
        strict: Stop at the first image that cannot be read.
        workers: Number of threads that read the images.
    """

    choice: Choice
    out: Path
    strict: bool = False
    workers: int | None = None

    @property
    def autoencoder(self) -> str:
        """Folder of the autoencoder; empty for pixels."""
        return str((self.out / OWN_AUTOENCODER).resolve()) if self.choice.stages else ""

    def make_latents(self) -> Recipe:
        """Record the choice, train the autoencoder and encode the images; return the recipe on the latents.

        The same call resumes what was interrupted. For pixels nothing is made, and the recipe is that of the choice.

        Raises:
            ValueError: The images have changed since.
            Interrupted: A signal came; what was done is kept.
            RunError: The training of the autoencoder diverged.
        """
        write_json(self.out / CHOICE, self.choice.to_json())
        if not self.choice.stages:
            return self.choice.recipe
        data = self.choice.recipe.data
        dataset = load_images(data, strict=self.strict, workers=self.workers, learn_classes=False)
        if dataset.summary is not None:
            print(dataset.summary.to_text(), file=sys.stderr, flush=True)
        encoder = self._train_autoencoder(dataset)
        cache, latents = CacheSettings(flip=data.flip), self.out / OWN_LATENTS
        prepare(data, encoder, latents, cache, workers=self.workers, strict=self.strict)
        return replace(self.choice.recipe, data=replace(data, source=str(latents.resolve())))

    def _train_autoencoder(self, dataset: Dataset[ImageSet]) -> VAE:
        place, splits = Path(self.autoencoder), dataset.splits
        trainer = AutoencoderTrainer(self.choice.autoencoder_recipe(dataset.sha256), splits.train, place)
        whole = (place / CONFIG).exists()  # it is saved at the end
        done = trainer.train()
        if not whole or trainer.resumed_at < done.step:
            save_scaled(trainer, splits.train)
        encoder = AutoencoderConfig(str(place)).load(trainer.device)
        assert isinstance(encoder, VAE)
        if not whole:
            images = splits.validation.images[:SHOWN]  # (N, C, H, W)
            error = reconstruction_error(images, reconstructed(encoder, images))
            print(
                f"autoencoder: {done.step} steps, {error.psnr:.1f} dB on held-out images", file=sys.stderr, flush=True
            )
        return encoder
