"""What a run is trained on, kept in its folder: counts, class names and a hash to know the images by, and a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fpdm.data.images import ImageSet
from fpdm.data.loading import Dataset
from fpdm.data.sources.folder import write_skipped
from fpdm.drawing.images import enlarged, save_png, tile
from fpdm.files import lock, write_atomically
from fpdm.runs.layout import DATA, DATA_PICTURE, RECIPE, SKIPPED
from fpdm.runs.recipe import Recipe, differences

_COLUMNS, _WIDEST = 8, 2048  # images across in the picture; pixels across


@dataclass(frozen=True)
class DataCard:
    """The images of a run, as `data.json` has them.

    Attributes:
        source: As `DataConfig.source`.
        train: Images to train on.
        validation: Images to choose by.
        test: Images to judge by.
        classes: The classes' names in the order of their labels; none if there are no classes.
        sha256: As `Dataset.sha256`.
    """

    source: str
    train: int
    validation: int
    test: int
    classes: tuple[str, ...]
    sha256: str

    @classmethod
    def of(cls, source: str, dataset: Dataset) -> DataCard:
        """The record of a data set that was loaded from `source`."""
        splits = dataset.splits
        sizes = len(splits.train), len(splits.validation), len(splits.test)
        return cls(source, *sizes, dataset.classes, dataset.sha256)

    def to_text(self) -> str:
        """The sizes in half a line."""
        return f"{self.train} images to train on, {self.validation} to validate, {self.test} to test"


def read_data_card(run: Path) -> DataCard | None:
    """The record in a run's folder; None if there is none.

    Raises:
        ValueError: It is damaged.
    """
    path = run / DATA
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return DataCard(**{**values, "classes": tuple(values["classes"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); move it away, and training makes it anew") from error


def check_data_card(run: Path, recipe: Recipe, record: DataCard) -> None:
    """Check that a run that is gone on with has the images that it was begun with.

    A run of another recipe passes: it is for the trainer to refuse.

    Raises:
        ValueError: They have changed.
    """
    before = read_data_card(run)
    if before is None or before.sha256 == record.sha256 or not _holds(run, recipe):
        return
    raise ValueError(
        f"the images of {record.source} have changed since {run} was begun: there were {before.to_text()}, and now "
        f"there are {record.to_text()}, or others; put them back, or choose another folder for a new run"
    )


def write_data_card(run: Path, recipe: Recipe, record: DataCard, dataset: Dataset) -> None:
    """Write `data.json`, `data.png` and `skipped.txt` into the folder of a run, unless it has them or is another's.

    Latents have no picture, and of what was skipped their cache has the list.

    Args:
        run: The folder.
        recipe: What is to be trained in it.
        record: Of the images, and checked.
        dataset: The images.

    Raises:
        ValueError: Another process holds the folder.
    """
    with lock(run):
        begun = (run / RECIPE).exists()
        if begun and (read_data_card(run) is not None or not _holds(run, recipe)):
            return
        if dataset.summary is not None and dataset.summary.skipped:
            write_skipped(dataset.summary, run / SKIPPED)
        if isinstance(dataset.splits.train, ImageSet):
            save_png(contact_sheet(dataset.splits.train), run / DATA_PICTURE)
        write_atomically(run / DATA, json.dumps(asdict(record), indent=1))


def _holds(run: Path, recipe: Recipe) -> bool:
    path = run / RECIPE
    return path.exists() and not differences(Recipe.from_json(path.read_text(encoding="utf-8")), recipe)


def contact_sheet(data: ImageSet) -> np.ndarray:
    """Up to 64 images, fewer if they are large, as evenly of all classes as there are: (h, w, 3) uint8."""
    labels = data.labels.numpy()  # (N,)
    place = np.zeros(len(labels), np.int64)  # (N,), of an image within its class
    for label in np.unique(labels):
        place[labels == label] = np.arange((labels == label).sum())
    columns = max(1, min(_COLUMNS, _WIDEST // data.shape[2]))
    chosen = np.lexsort((labels, place))[: columns**2]  # (n,)
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]  # (n,)
    return tile(enlarged(data.images[chosen]), columns, gap=4)
