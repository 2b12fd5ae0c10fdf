"""Choose how to train on a folder of images: size, pixels or latents, model, batch and rate, for the time given.

The rules come from the study in results/own-folders (benchmarks/own_folders.py): two folders of different kinds, each
trained on in several ways for the same time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from fpdm.configuration import NonNegativeInt, NonNegativeNumber, PositiveInt, Record, configuration
from fpdm.data.config import SPLIT_SHARES
from fpdm.data.survey import Survey
from fpdm.errors import printable
from fpdm.files import read_dataclass
from fpdm.models.config import TransformerConfig
from fpdm.runs.recipe import Recipe, differences
from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from fpdm.training.callbacks import VALIDATION_IMAGES
from fpdm.training.choice_text import FEW_IMAGES, describe
from fpdm.training.samples import COUNT, STEPS

Space = Literal["", "pixels", "latents"]

FEWEST_IMAGES = 20  # with fewer, a split has one image or none, and a model can only repeat what it has seen
SIZES = (32, 64, 128, 256)
TOKENS = 8  # along a side
LARGEST_PIXELS = 40  # pixels along a side, beyond which patches of 64 tokens are so large that their seams show
LATENT_CHANNELS = 4
STAGES = {2: (16, 32), 4: (8, 16, 32), 8: (8, 16, 32, 32)}  # of the autoencoder, by its factor
AUTOENCODER_SHARE = 0.25  # of the time
AUTOENCODER_IMAGES = 3_000, 40_000  # at 64 pixels: fewest for latents to serve, and most that are of use
AUTOENCODER_BATCH = 8  # steps count more than the images of each
FEWEST_SEEN = 8_000  # images that a model has to see for the next larger size to be worth it
WIDTHS = (128, 192, 256, 384, 512)
SEEN_TO_WIDEN = 300_000  # images that a model has to see for the next width to be worth it
STEPS_AIMED_AT = 3_000  # longer trainings take larger batches instead
BATCHES = 16, 128
FIRST_SAMPLES = 60.0  # seconds
SHARE_BESIDE = 0.1  # of the time until then that a sheet of samples or a validation may take
# What takes as long as training on so many images: an evaluation of the network is a third of a training step.
SHEET = 2 * COUNT * STEPS // 3  # of averaged and of raw weights
VALIDATION = 10 * VALIDATION_IMAGES // 3  # at 10 timesteps
LEAST_STEPS_SHARE = 0.5  # of the time for steps, however long everything else takes
RATE = 1e-3  # of width 128; inversely proportional to the width
DECAY = 0.5


class Speed(Protocol):
    """Interface of what the choice has to know about the machine."""

    @property
    def machine(self) -> str:
        """The machine in words."""
        ...

    def images_per_second(self, recipe: Recipe) -> float:
        """Return how many images per second a training by this recipe takes."""
        ...

    def autoencoder_images_per_second(self, shape: AutoencoderShape, image: tuple[int, int, int]) -> float:
        """Return how many images (C, H, W) per second the training of an autoencoder takes."""
        ...


@configuration
class Choice(Record):
    """How to train on a folder of images, as in a run's `choice.json`.

    Attributes:
        seconds: Seconds of all training steps, those of the autoencoder included.
        recipe: The recipe on the images. Where latents serve, those of the images take their place.
        stages: Channels of the autoencoder's stages; none for pixels.
        autoencoder_seconds: Seconds of the autoencoder's training.
        steps: Number of steps expected of the model.
        text: What was chosen, why, and what to expect.
        asked: Seconds of training steps that were asked for, of which there are fewer where everything else takes long;
            0 stands for `seconds`.
    """

    seconds: NonNegativeNumber
    recipe: Recipe
    stages: tuple[PositiveInt, ...]
    autoencoder_seconds: NonNegativeNumber
    steps: NonNegativeInt
    text: str
    asked: NonNegativeNumber = 0.0

    @property
    def left_out(self) -> float:
        """Seconds of training steps that were asked for and for which there was no time."""
        return max(self.asked - self.seconds, 0.0)

    def to_text(self) -> str:
        """Return what was chosen, why, and what to expect."""
        return self.text

    @classmethod
    def read(cls, path: Path) -> Choice | None:
        """Read the choice of a run; None if there is none.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            return read_dataclass(path, cls)
        except FileNotFoundError:
            return None

    def changed(self, settings: Recipe, given: Collection[str], seconds: float) -> Choice:
        """Return the choice with what the user gives beside it, and with another time if one is given.

        Args:
            settings: A recipe with the values given.
            given: Names of the fields that were.
            seconds: Seconds of all training steps.

        Raises:
            ValueError: Something is given that a run that was started cannot change.
        """
        recipe = with_given(self.recipe, settings, given)
        train = replace(recipe.train, seconds=max(seconds - self.autoencoder_seconds, 0.001))
        recipe = replace(recipe, train=train)
        changes = differences(self.recipe, recipe)
        if changes:
            raise ValueError(f"the run was started otherwise ({'; '.join(changes)}); choose another folder for --out")
        return replace(self, seconds=seconds, recipe=recipe, asked=seconds + self.left_out)

    def autoencoder_recipe(self, images: str) -> AutoencoderRecipe:
        """Return the recipe of the autoencoder.

        Args:
            images: `Dataset.sha256` of the images.
        """
        train = self.recipe.train
        config = AutoencoderTrainConfig(
            steps=0,
            seconds=self.autoencoder_seconds,
            batch_size=min(AUTOENCODER_BATCH, train.batch_size),
            checkpoint_every=100,
            seed=train.seed,
        )
        return AutoencoderRecipe(self.recipe.data, AutoencoderShape(stage_channels=self.stages), config, images)


def choose(
    base: Recipe,
    found: Survey,
    seconds: float,
    speed: Speed,
    *,
    given: Collection[str] = (),
    space: Space = "",
    whole: float | None = None,
    spent: float = 0.0,
) -> Choice:
    """Choose how to train on a folder of images.

    Args:
        base: The recipe of the model wanted, with the values that the user gives.
        found: What the folder holds.
        seconds: Seconds of training steps, those of an autoencoder included.
        speed: What the machine can do.
        given: Names of the fields that the user gives, which are not chosen.
        space: Whether to train on pixels or on latents; empty to choose.
        whole: Seconds in which all is to be done, samples and validation included; None if only the steps count.
        spent: Seconds of those that are over.

    Raises:
        ValueError: There are too few images, or what is given does not fit them.
    """
    check_enough(found)
    base = replace(base, data=replace(base.data, **_unless(given, **_colours(found))))
    if "size" in given:
        sizes: Sequence[int] = [base.data.size]
    else:
        sizes = candidate_sizes(found.side.median)
    ways = [_planned(base, size, seconds, speed, given, space) for size in sizes]
    place = max((place for place, way in enumerate(ways) if way.needed <= seconds), default=0)
    larger = ways[place + 1] if place + 1 < len(ways) else None
    way, fitting = ways[place], seconds
    if whole is not None:
        fitting = max(min(seconds, whole - spent - _beside(way, seconds, found)), LEAST_STEPS_SHARE * seconds)
        way = _planned(base, sizes[place], fitting, speed, given, space)
    recipe, steps = _completed(way, fitting, given)
    text = describe(way._replace(recipe=recipe), larger, found, steps, speed.machine, whole=whole)
    return Choice(fitting, recipe, way.stages, way.autoencoder_seconds, steps, text, asked=seconds)


def check_enough(found: Survey) -> None:
    """Check that a folder holds enough images to learn from.

    Raises:
        ValueError: It does not.
    """
    if found.images < FEWEST_IMAGES:
        raise ValueError(
            f"{printable(found.folder)} has {found.images} images, from which nothing can be learned but these; "
            f"expected {FEWEST_IMAGES} or more, and {FEW_IMAGES} for new ones: add images of the kind, or crops of them"
        )


def candidate_sizes(side: float) -> list[int]:
    """Return the sizes to choose from, smallest first, for images whose shorter side is `side` pixels."""
    own = max(4 * round(side / 4), 4) if side < SIZES[0] else 8 * round(side / 8)
    sizes = {size for size in SIZES if size <= own}
    return sorted(sizes | ({own} if own < SIZES[1] else set()))


def with_given(recipe: Recipe, settings: Recipe, given: Collection[str]) -> Recipe:
    """Return a recipe with those fields of another that the user gives.

    Args:
        recipe: The recipe.
        settings: The other.
        given: Names of these fields.
    """
    parts = {}
    for name in ("data", "model", "train", "schedule", "start"):
        part, other = getattr(recipe, name), getattr(settings, name)
        parts[name] = replace(part, **{one.name: getattr(other, one.name) for one in fields(part) if one.name in given})
    return replace(recipe, **parts)


class Way(NamedTuple):
    """A way to train on images of one size.

    Attributes:
        recipe: The recipe on the images; its network is that of the latents, if they serve.
        stages: Channels of the autoencoder's stages; none for pixels.
        autoencoder_seconds: Seconds of its training.
        seen: Images that the model sees in the time.
        per_second: The same per second.
        needed: Seconds of training from which on this size is worth it.
    """

    recipe: Recipe
    stages: tuple[int, ...]
    autoencoder_seconds: float
    seen: float
    per_second: float
    needed: float


def _completed(way: Way, seconds: float, given: Collection[str]) -> tuple[Recipe, int]:
    """Return the recipe with batch, rate and schedule, and the number of steps expected."""
    train = way.recipe.train
    batch = train.batch_size if "batch_size" in given else batch_for(way.seen)
    steps = max(1, int(way.seen / batch))
    chosen = _unless(
        given,
        batch_size=batch,
        learning_rate=RATE * WIDTHS[0] / way.recipe.model.width,
        warmup=max(1, min(100, steps // 20)),
        decay=DECAY,
        checkpoint_every=max(20, min(500, steps // 10)),
        log_every=max(1, min(20, steps // 50)),
        validate_every=steps // 2 + 1 if _validates_midway(way) else 10 * steps,  # and at the end
        sample_every=0,
        sample_after=0.0 if "sample_every" in given else _first_sheet(way),
    )
    train = replace(train, **chosen, steps=0, seconds=seconds - way.autoencoder_seconds)
    return replace(way.recipe, train=train), steps


def _first_sheet(way: Way) -> float:
    """Return the seconds of training after which samples are drawn first: a minute, or more where they take long."""
    return max(FIRST_SAMPLES, round(SHEET / way.per_second / SHARE_BESIDE, 1))


def _validates_midway(way: Way) -> bool:
    return way.seen > VALIDATION / SHARE_BESIDE


def _beside(way: Way, seconds: float, found: Survey) -> float:
    """Return the seconds of validation and samples beside the steps of a training."""
    first = _first_sheet(way)
    sheets = 1 + (1 + math.floor(math.log2(seconds / first)) if seconds >= first else 0)
    validation = VALIDATION * min(1.0, SPLIT_SHARES["validation"] * found.images / VALIDATION_IMAGES)
    return (sheets * SHEET + (1 + _validates_midway(way)) * validation) / way.per_second


def batch_for(seen: float) -> int:
    """Return the images per step, a power of two, for a training that sees so many images."""
    least, most = BATCHES
    return min(max(2 ** round(math.log2(max(seen, 1) / STEPS_AIMED_AT)), least), most)


def _planned(base: Recipe, size: int, seconds: float, speed: Speed, given: Collection[str], space: Space) -> Way:
    factor = _factor(size, space)
    data, side, channels = replace(base.data, size=size), size, base.data.channels
    stages, spent, share, needed = (), 0.0, 0.0, 0.0
    if factor > 1:
        image, stages, share = (channels, size, size), STAGES[factor], AUTOENCODER_SHARE
        rate = speed.autoencoder_images_per_second(AutoencoderShape(stage_channels=stages), image)
        least, most = (count * max(size / 64, 1) for count in AUTOENCODER_IMAGES)
        spent, needed = min(share * seconds, most / rate), least / rate / share
        side, channels = size // factor, LATENT_CHANNELS
    ways = []
    for width in [base.model.width] if "width" in given else WIDTHS:
        recipe = replace(base, data=data, model=_network(base.model, side, channels, width, given))
        per_second = speed.images_per_second(recipe)
        enough = max(needed, FEWEST_SEEN / per_second / (1 - share))
        ways.append(Way(recipe, stages, spent, per_second * (seconds - spent), per_second, enough))
    return next((way for way in reversed(ways) if way.seen >= SEEN_TO_WIDEN), ways[0])


def _factor(size: int, space: Space) -> int:
    """Return the factor by which latents are smaller than images of this size; 1 for pixels."""
    if space == "pixels" or (space == "" and size <= LARGEST_PIXELS):
        return 1
    wanted = 2 if size <= LARGEST_PIXELS else 4 if size < 96 else 8
    found = max(factor for factor in (1, *STAGES) if factor <= wanted and size % factor == 0)
    if found == 1 and space == "latents":
        raise ValueError(
            f"latents of images of {size} x {size} pixels need an even size; give --size {size + size % 2}"
        )
    return found


def _network(
    base: TransformerConfig, side: int, channels: int, width: int, given: Collection[str]
) -> TransformerConfig:
    patches = [patch for patch in range(1, side + 1) if side % patch == 0]
    patch = min(patches, key=lambda patch: abs(math.log(side // patch / TOKENS)))
    chosen = _unless(given, patch_size=patch, width=width, heads=max(width // 32, 1))
    return replace(base, image_size=side, in_channels=channels, num_classes=0, **chosen)


def _colours(found: Survey) -> dict[str, Any]:
    return {"channels": 1 if found.grey else 3, "conditional": found.learnable}


def _unless(given: Collection[str], **values: Any) -> dict[str, Any]:
    """Return the values whose names are not among those given."""
    return {name: value for name, value in values.items() if name not in given}
