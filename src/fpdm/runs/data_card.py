"""Record the images that a run is trained on: counts, class names, a hash and a contact sheet."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset
from fpdm.data.sources.source import write_skipped
from fpdm.drawing.images import enlarged, save_png, tile
from fpdm.files import read_dataclass, write_atomically
from fpdm.runs.layout import DATA, DATA_PICTURE, RECIPE, RUN, SKIPPED
from fpdm.runs.recipe import Recipe, differences

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
        return read_dataclass(path, DataCard)
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
    raise ValueError(
        f"the images of {record.source} have changed since {run} was started, from {before.to_text()} to "
        f"{record.to_text()} (others, even if their number is the same); restore them, or choose another folder "
        "for a new run"
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
        begun = (run / RECIPE).exists()
        if begun and (read_data_card(run) is not None or not _holds(run, recipe)):
            return
        if dataset.summary is not None and dataset.summary.skipped:
            write_skipped(dataset.summary.skipped, run / SKIPPED)
        if isinstance(dataset.splits.train, ImageSet):
            save_png(contact_sheet(dataset.splits.train), run / DATA_PICTURE)
        write_atomically(run / DATA, json.dumps(asdict(record), indent=1))


def _holds(run: Path, recipe: Recipe) -> bool:
    path = run / RECIPE
    return path.exists() and not differences(Recipe.read(path), recipe)


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
