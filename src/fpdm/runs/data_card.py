"""Record the images that a run is trained on: counts, class names, a hash and a contact sheet."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fpdm.configuration import from_values
from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset
from fpdm.data.sources.source import write_skipped
from fpdm.drawing.images import enlarged, save_png, tile
from fpdm.files import read_json, write_json
from fpdm.runs.layout import DATA, DATA_PICTURE, RECIPE, RUN, SKIPPED
from fpdm.runs.recipe import Recipe, differences

_CHECKSUM = "checksum"
_COLUMNS, _MAX_WIDTH = 8, 2048  # of the contact sheet: images, pixels


@dataclass(frozen=True)
class DataCard:
    """Description of the images of a run, as in `data.json`.

    Attributes:
        source: The source, as `DataConfig.source`.
        train: Number of training images.
        validation: Number of validation images.
        test: Number of test images.
        classes: Names of the classes in the order of their labels; none if there are no classes.
        sha256: Hash of all images and labels, as `Dataset.sha256`.
        numbers: The data's own number of each class; none if it has only names.
    """

    source: str
    train: int
    validation: int
    test: int
    classes: tuple[str, ...]
    sha256: str
    numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, source: str, dataset: Dataset) -> DataCard:
        """Describe a data set that was loaded from `source`."""
        splits = dataset.splits
        sizes = len(splits.train), len(splits.validation), len(splits.test)
        return cls(source, *sizes, dataset.classes, dataset.sha256, dataset.numbers)

    def to_json(self) -> str:
        """Return the content of `data.json`: the fields, and a hash of them that `read_data_card` checks."""
        return json.dumps({**asdict(self), _CHECKSUM: self.checksum()}, indent=1)

    def checksum(self) -> str:
        """Return a hash of all fields but the source, which may move."""
        return hashlib.sha256(json.dumps(asdict(replace(self, source="")), sort_keys=True).encode()).hexdigest()

    def to_text(self) -> str:
        """Return the sizes of the splits in words."""
        return f"{self.train} images to train on, {self.validation} to validate, {self.test} to test"


def read_data_card(run: Path) -> DataCard | None:
    """Read the data card in a run's folder; None if there is none.

    Raises:
        ValueError: The file is damaged.
    """
    path = run / DATA
    if not path.exists():
        return None
    try:
        values = read_json(path)
        checksum = values.pop(_CHECKSUM, None)  # earlier versions wrote none
        card = from_values(DataCard, values, str(path))
        if checksum not in (None, card.checksum()):
            raise ValueError(f"{path} is damaged: its {_CHECKSUM} is not that of what it says")
        return card
    except ValueError as error:
        raise ValueError(f"{error}; delete it, and training writes a new one") from error


def check_data_card(run: Path, recipe: Recipe, record: DataCard) -> None:
    """Check that a run is resumed with the images that it was started with.

    A run of another recipe passes, because the trainer refuses it.

    Raises:
        ValueError: The images have changed.
    """
    before = read_data_card(run)
    if before is None or before.sha256 == record.sha256 or not _holds(run, recipe):
        return
    old, new = (f"{card.train} + {card.validation} + {card.test}" for card in (before, record))
    change = f"train + validation + test were {old}, are {new}"
    if old == new:
        change = f"sha256 {before.sha256[:12]} -> {record.sha256[:12]}"
    if before.source == record.source:
        raise ValueError(
            f"the images of {record.source} have changed since: {change}; restore them, or choose another folder"
        )
    raise ValueError(
        f"{record.source} has other images than the run's {before.source}: {change}; choose another folder"
    )


def write_data_card(run: Path, recipe: Recipe, record: DataCard, dataset: Dataset) -> None:
    """Write `data.json`, `data.png` and `skipped.txt` into a run's folder, unless it has them or holds another run.

    Latents get no picture, and their cache has its own list of skipped files.

    Args:
        run: The folder.
        recipe: What will be trained in it.
        record: The data card of the images, already checked.
        dataset: The images.

    Raises:
        ValueError: Another process holds the folder, or it has other files.
    """
    with RUN.hold(run):
        if (run / RECIPE).exists():
            before = read_data_card(run)
            if before is not None and _holds(run, recipe) and before.source != record.source:  # they have moved
                write_json(run / DATA, replace(before, source=record.source).to_json())
            if before is not None or not _holds(run, recipe):
                return
        if dataset.summary is not None and dataset.summary.skipped:
            write_skipped(dataset.summary.skipped, run / SKIPPED)
        if isinstance(dataset.splits.train, ImageSet):
            save_png(contact_sheet(dataset.splits.train), run / DATA_PICTURE)
        write_json(run / DATA, record.to_json())


def with_images(recipe: Recipe, run: Path) -> Recipe:
    """Complete the recipe of a run of an earlier version, which has the hash of its images in the data card only.

    Raises:
        ValueError: The data card is damaged.
    """
    card = None if recipe.images else read_data_card(run)
    return replace(recipe, images=card.sha256) if card is not None else recipe


def _holds(run: Path, recipe: Recipe) -> bool:
    """Whether the folder has a run of this recipe, on whatever images."""
    path = run / RECIPE
    return path.exists() and not differences(replace(Recipe.read(path), images=recipe.images), recipe)


def contact_sheet(data: ImageSet) -> np.ndarray:
    """Draw up to 64 images, fewer if they are large, balanced over the classes: (h, w, 3) uint8."""
    labels = data.labels.numpy()  # (N,)
    place = np.zeros(len(labels), np.int64)  # (N,), of an image within its class
    for label in np.unique(labels):
        place[labels == label] = np.arange((labels == label).sum())
    columns = max(1, min(_COLUMNS, _MAX_WIDTH // data.shape[2]))
    chosen = np.lexsort((labels, place))[: columns**2]  # (n,)
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]  # (n,)
    return tile(enlarged(data.images[chosen]), columns, gap=4)
