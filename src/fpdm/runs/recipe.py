"""A recipe: everything that a training run is, in frozen dataclasses that JSON holds."""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import DataConfig
from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import TransformerConfig
from fpdm.runs.train_config import TrainConfig, WarmStart

if TYPE_CHECKING:
    from fpdm.data.dataset import Examples

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """A complete training run.

    Attributes:
        name: What it is called in tables and pictures.
        data: Which images.
        model: The network's shape.
        train: How to train it.
        schedule: The noise schedule.
        autoencoder: Whose latents the network works on; by default none's, so pixels. It is taken from the data.
        start: The weights to begin with.

    Raises:
        ValueError: A weighting of the loss that is not for what the schedule says is predicted.
    """

    name: str
    data: DataConfig
    model: TransformerConfig
    train: TrainConfig
    schedule: Schedule = field(default_factory=Schedule)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    start: WarmStart = field(default_factory=WarmStart)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"name is {self.name!r}; expected a text")
        self.train.make_objective().check(self.schedule)

    def fitted(self, data: Examples) -> Recipe:
        """With the model's image size, channels and number of classes, and the autoencoder, taken from the data.

        Raises:
            ValueError: The image size is not divisible by the patch size.
        """
        channels, size, _ = data.shape
        return dataclasses.replace(
            self,
            model=dataclasses.replace(self.model, image_size=size, in_channels=channels, num_classes=data.num_classes),
            autoencoder=data.autoencoder,
        )

    def to_json(self) -> str:
        """As JSON, every field."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """From `to_json`, or written by hand: what is left out takes its default, and `data` may be a name alone.

        Raises:
            ValueError: Not JSON, or an unknown or missing key; the nearest known one is named.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"the recipe is not JSON: {error}") from error
        nested = {"data": DataConfig, "model": TransformerConfig, "train": TrainConfig, "schedule": Schedule}
        nested |= {"autoencoder": AutoencoderConfig, "start": WarmStart}
        if isinstance(values, dict):
            if isinstance(values.get("data"), str):
                values["data"] = {"source": values["data"]}
            values = {key: _build(nested[key], value, key) if key in nested else value for key, value in values.items()}
        return _build(cls, values, "recipe")


def _build(kind: type[T], values: Any, where: str) -> T:
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {type(values).__name__} in the recipe; expected an object")
    known = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    # JSON has no tuples.
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise ValueError(f"{where} has an unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{where} in the recipe: {error}") from error


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What a resumed run may not change, one "field: old -> new" each; how long to train, to save and to show may."""
    free = {"train.steps", "train.seconds", "train.macs", "train.checkpoint_every", "train.keep", "train.log_every"}
    free |= {"train.validate_every", "train.sample_every", "train.tracker", "train.activation_checkpointing"}
    free.add("train.accumulate")  # what another number of processes may need: the same step up to rounding
    free.add("autoencoder.source")  # wherever it is: its hash says which it is
    if not new.start.init_sha256:  # a resumed run does not ask where its first weights came from
        free.add("start.init_sha256")
        if old.start.init_from and new.start.init_from:
            free.add("start.init_from")
    before, after = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return [f"{key}: {before[key]} -> {after[key]}" for key in before if key not in free and before[key] != after[key]]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
