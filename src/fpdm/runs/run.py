"""Load a trained model from the folder of its run."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fpdm.autoencoder.interface import Autoencoder
from fpdm.data.config import DATASETS
from fpdm.data.sources import named
from fpdm.data.splits import counted
from fpdm.devices import default_device
from fpdm.errors import CheckpointError
from fpdm.memory import check_memory
from fpdm.models.cost import model_cost
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs import checkpoint
from fpdm.runs.data_card import read_data_card
from fpdm.runs.layout import CHECKPOINTS, DATA, EMA, MODEL_INDEX, OWN_AUTOENCODER, RECIPE
from fpdm.runs.pipeline_files import class_names, read_index
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.sampling_file import read_sampling
from fpdm.sampling.defaults import ChosenPlan, SamplingDefaults
from fpdm.sampling.images import ImageSampler, sample_shape
from fpdm.sampling.plan import Plan


class Classes(NamedTuple):
    """Classes of a model.

    Attributes:
        names: Their names in the order of their labels; none if they are unknown or there are none.
        numbers: The data's own number of each; none if it has only names.
    """

    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """A trained run, read from its folder.

    Attributes:
        recipe: The recipe that it was trained by.
        model: The network with averaged weights, in evaluation mode.
        progress: How far the training had come.
        weights: SHA-256 of the averaged weights.
        autoencoder_source: Path or hub id of the autoencoder, if it is no longer where the run recorded it.
        folder: Its folder; None if it is in memory only.
    """

    recipe: Recipe
    model: DiffusionTransformer
    progress: Progress
    weights: str
    autoencoder_source: str = ""
    folder: Path | None = None

    @functools.cached_property
    def classes(self) -> Classes:
        """The classes of the model.

        Raises:
            ValueError: The file that names them is damaged.
        """
        return read_classes(self.folder, self.recipe)

    @functools.cached_property
    def sampling(self) -> SamplingDefaults:
        """The plans that the model is sampled with when nothing else is said.

        Raises:
            ValueError: The file that says so is damaged.
        """
        return read_sampling(self.folder, self.recipe)

    def complete(self, given: Mapping[str, Any]) -> ChosenPlan:
        """Return the plan with what the user gives, and everything else as the model's defaults have it.

        Args:
            given: Fields of the plan.

        Raises:
            ValueError: A value is out of range, or values contradict each other.
        """
        steps = self.recipe.schedule.num_timesteps
        return self.sampling.complete(given, self.model.cost(), steps, weights=self.weights)

    @functools.cached_property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder of the model's latents, loaded on first use; for a model of pixels, the identity.

        Raises:
            ValueError: It cannot be loaded, is not the one that made the latents, or does not fit the model.
        """
        try:
            found = self.recipe.autoencoder.load(default_device(), source=self.autoencoder_source or self._beside())
        except ValueError as error:
            raise ValueError(f"{error}; if it has moved, say where it is with --autoencoder") from error
        found.image_shape(sample_shape(self.model))
        return found

    def _beside(self) -> str:
        """Return the autoencoder in the run's own folder, if the run has moved with it; else nothing."""
        recorded = self.recipe.autoencoder.source
        if self.folder is None or not Path(recorded).is_absolute() or Path(recorded).exists():
            return ""
        return str(self.folder / OWN_AUTOENCODER) if (self.folder / OWN_AUTOENCODER).is_dir() else ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the images that the model generates."""
        return self.autoencoder.image_shape(sample_shape(self.model))

    def check_guidance(self, guidance: float) -> None:
        """Warn of guidance by a "no class" that the model has never seen in training."""
        if guidance != 1.0 and self.recipe.model.num_classes and not self.recipe.train.label_dropout:
            warnings.warn(
                f'{self.recipe.name} was trained with label dropout 0, so that it has never seen the "no class" that '
                f"guidance {guidance:g} needs; leave --guidance out, or train it with --label-dropout 0.1",
                RuntimeWarning,
                stacklevel=2,
            )

    def check_fits(self, images: int, guidance: float, *, device: torch.device | None = None) -> None:
        """Check, before any is drawn, that so many images at once fit in memory, counted low.

        Raises:
            ValueError: They do not.
        """
        samples = images if guidance == 1.0 else 2 * images  # with and without the class, in one batch
        needed, what = self.model.cost().sampling_memory(samples), f"sampling {counted(images, 'image')} at once"
        check_memory(needed, what, "a smaller --batch-size", device=str(device or default_device()))

    def check_row_fits(self, images: int, option: str) -> None:
        """Check, before any is drawn, that so many images that are measured together fit in memory, counted low.

        Args:
            images: Number of images.
            option: The option that says how many.

        Raises:
            ValueError: They do not.
        """
        check_memory(images * math.prod(self.image_shape), f"a row of {images:,} images", f"fewer --{option}")

    def sampler(
        self, plan: Plan, *, seed: int = 0, device: torch.device | None = None, scheduler: Any = None
    ) -> ImageSampler:
        """Return an `ImageSampler` of this model and plan, after moving the model to a device."""
        self.check_guidance(plan.guidance)
        schedule, device, autoencoder = self.recipe.schedule, device or default_device(), self.autoencoder
        self.model.to(device)  # type: ignore[arg-type]
        return ImageSampler(
            self.model, schedule, plan, seed=seed, device=device, autoencoder=autoencoder, scheduler=scheduler
        )


def read_classes(folder: Path | None, recipe: Recipe) -> Classes:
    """Return the classes of a model.

    Args:
        folder: Folder of the model; None if it is in memory only.
        recipe: Its recipe.

    Raises:
        ValueError: The file that names them is damaged.
    """
    num_classes, source = recipe.model.num_classes, recipe.data.source
    if not num_classes:
        return Classes()
    card = None if folder is None else read_data_card(folder)
    if card is not None and card.classes:
        if len(card.classes) != num_classes or (recipe.images and recipe.images != card.sha256):
            raise ValueError(
                f"{folder}/{DATA} is of other images than the model's, so its classes are not; restore it, or delete it"
            )
        return Classes(card.classes, card.numbers)
    names: tuple[str, ...] = ()
    if source in DATASETS:
        known = named.class_names(source)
        names = known if len(known) == num_classes else ()
    elif folder is not None and (folder / MODEL_INDEX).exists():
        names = class_names(read_index(folder).id2label, num_classes)
    # Labels are the data's own numbers, as those of ImageNet, unless the data has numbers for names.
    return Classes(names, () if any(name.isdecimal() for name in names) else tuple(range(len(names))))


def load_run(out: Path, *, autoencoder: str = "") -> Run:
    """Load the newest whole checkpoint of a run, which may still be training.

    Args:
        out: The run's folder.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the run recorded it.

    Raises:
        ValueError: There is no run in the folder, or no checkpoint yet.
        CheckpointError: All checkpoints are damaged, or do not fit their recipes.
    """
    try:
        return _load_newest(out, autoencoder)
    except FileNotFoundError:
        # A run that is still training deleted this checkpoint while it was read; there is a newer one.
        return _load_newest(out, autoencoder)


def _load_newest(out: Path, autoencoder: str) -> Run:
    found = checkpoint.load_latest(out / CHECKPOINTS, lambda one: _load(one, autoencoder, out))
    if found is None:
        raise ValueError(f"there is no run with a checkpoint in {out}; expected a folder made by fpdm train --out")
    return found


def _load(found: checkpoint.Checkpoint, autoencoder: str, out: Path) -> Run:
    try:
        recipe = Recipe.read(found.file(RECIPE))
        cost = model_cost(recipe.model)
        what = f"{found.path}, a model of {cost.total_parameters:.3g} parameters,"
        check_memory(cost.weights_memory, what, "a smaller one")
        model = DiffusionTransformer.without_weights(recipe.model, iterations=recipe.train.mean_iterations)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    weights = found.tensors(EMA)
    checkpoint.check_names(found.file(EMA), weights, dict(model.named_parameters()))
    model.take_weights(weights)
    return Run(recipe, model.eval(), found.progress, found.hashes[EMA], autoencoder, out)
