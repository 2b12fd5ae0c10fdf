"""The recipe of a training run: its complete configuration, which is stored as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.configuration import Record, configuration, from_values, parse_json
from fpdm.configuration import differences as configuration_differences
from fpdm.data.config import DataConfig
from fpdm.diffusion.schedule import Schedule
from fpdm.files import read_json
from fpdm.models.config import TransformerConfig
from fpdm.models.cost import model_cost
from fpdm.runs.train_config import TrainConfig, WarmStart

if TYPE_CHECKING:
    from fpdm.data.dataset import Examples


@configuration
class Recipe(Record):
    """Complete configuration of a training run.

    Attributes:
        name: Name of the run in tables and pictures.
        data: Images to train on.
        model: Architecture of the network.
        train: How to train it.
        schedule: Noise schedule.
        autoencoder: Autoencoder of the latents that the network works on, read from the data; by default pixels.
        start: Weights to start from.
        images: `Dataset.sha256` of the images, found when they are loaded; empty if it is not known.

    Raises:
        ValueError: The weighting of the loss does not fit what the network predicts, `weak_weight` a model without a
            middle, `random_start` a stack, or `exit_weight` a model that has no early exit in training.
    """

    name: Annotated[str, MinLen(1), "a text that is not empty"]
    data: DataConfig
    model: TransformerConfig
    train: TrainConfig
    schedule: Schedule = field(default_factory=Schedule)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    start: WarmStart = field(default_factory=WarmStart)
    images: str = ""

    def __post_init__(self) -> None:
        self.train.make_objective().check(self.schedule)
        middle = model_cost(self.model).middle
        if self.train.weak_weight and not middle.weak_depths:
            raise ValueError(
                f"weak_weight is {self.train.weak_weight}, but a model without a middle has no weaker answer; leave it "
                "out"
            )
        if self.train.random_start and not middle.adjustable:
            raise ValueError(
                f"random_start is {self.train.random_start}, but a stack of blocks has no start to choose; leave it out"
            )
        if self.train.exit_weight and not middle.has_exit(self.train.most_grad_iterations):
            raise ValueError(
                f"exit_weight is {self.train.exit_weight}, but no step has an early exit; expected a fixed point with "
                "grad_iters of at least 2 and another gradient than 'jfb' and 'implicit', or a stack with a middle"
            )

    def fitted(self, data: Examples, images: str = "") -> Recipe:
        """Return the recipe with the image size, channels, classes and autoencoder of the data.

        Args:
            data: The images to train on, or their latents.
            images: `Dataset.sha256` of the data set, by which a resumed run knows it wherever it is.

        Raises:
            ValueError: The image size is not divisible by the patch size.
        """
        channels, size, _ = data.shape
        return dataclasses.replace(
            self,
            model=dataclasses.replace(self.model, image_size=size, in_channels=channels, num_classes=data.num_classes),
            autoencoder=data.autoencoder,
            images=images,
        )

    def at_least(self) -> Recipe:
        """Return the recipe with the smallest model that it may come to have, before its images are read."""
        data, patch = self.data, self.model.patch_size
        known = data.is_folder and not data.is_cache and data.size % patch == 0
        smallest = {"image_size": data.size if known else patch, "in_channels": 1, "num_classes": 0}
        return dataclasses.replace(self, model=dataclasses.replace(self.model, **smallest))

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read a recipe from JSON. Keys that are left out take their defaults, and `data` may be a source alone.

        Raises:
            ValueError: The text is not JSON, a key is unknown, missing or given twice, or a value is wrong.
        """
        return cls._of(parse_json(text, "the recipe"))

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe from a file, as `from_json` does.

        Raises:
            OSError: There is no such file, or it cannot be read.
            ValueError: The file is no recipe; the message begins with its path.
        """
        values = read_json(path)
        try:
            return cls._of(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, values: Any) -> Recipe:
        if isinstance(values, dict) and isinstance(values.get("data"), str):
            values["data"] = {"source": values["data"]}
        return from_values(cls, values, "recipe")


PLACES = {"data.source": "images", "autoencoder.source": "autoencoder.sha256", "start.init_from": "start.init_sha256"}
"""Fields that say where something is, each with the field that has the hash of its content."""


def differences(old: Recipe, new: Recipe) -> list[str]:
    """List the changes that a resumed run may not make, as "field: old -> new".

    Its name may change, how long it trains, how often it saves, what it shows, and the places of what it reads.
    """
    free = {"name", "train.steps", "train.seconds", "train.macs", "train.checkpoint_every", "train.keep"}
    free |= {"train.log_every", "train.validate_every", "train.sample_every", "train.sample_after", "train.tracker"}
    free.add("train.activation_checkpointing")
    free.add("train.accumulate")  # what another number of processes may need: the same step up to rounding
    return configuration_differences(old, new, free, PLACES)
