"""What a run is trained on, kept in its folder: counts, class names and a hash to know the images by, and a picture."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fpdm.data import Dataset, ImageSet, write_skipped
from fpdm.data.folder import escaped
from fpdm.files import hold, write_atomically
from fpdm.report.pictures import enlarged, save_png, tile
from fpdm.training import Recipe
from fpdm.training.config import differences
from fpdm.training.run import RECIPE

DATA, PICTURE, SKIPPED = "data.json", "data.png", "skipped.txt"
_COLUMNS, _WIDEST = 8, 2048  # images across in the picture; pixels across
_NAMED = 10  # classes in a message


@dataclass(frozen=True)
class DataRecord:
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
    def of(cls, source: str, dataset: Dataset) -> DataRecord:
        """The record of a data set that was loaded from `source`."""
        splits = dataset.splits
        sizes = len(splits.train), len(splits.validation), len(splits.test)
        return cls(source, *sizes, dataset.classes, dataset.sha256)

    def to_text(self) -> str:
        """The sizes in half a line."""
        return f"{self.train} images to train on, {self.validation} to validate, {self.test} to test"


def read_record(run: Path) -> DataRecord | None:
    """The record in a run's folder; None if there is none.

    Raises:
        ValueError: It is damaged.
    """
    path = run / DATA
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return DataRecord(**{**values, "classes": tuple(values["classes"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); move it away, and training makes it anew") from error


def class_label(name: str, classes: Sequence[str], num_classes: int) -> int:
    """The label of the class with this name; a number that is no name stands for itself.

    Args:
        name: What the user wrote.
        classes: The names, in the order of their labels; none if they are not known.
        num_classes: How many classes the model knows.

    Raises:
        ValueError: There is no such class; the nearest is named.
    """
    if not num_classes:
        raise ValueError(f"there is no class {name!r}: the model was trained without classes; leave the class out")
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < num_classes:
        return int(name)
    near = difflib.get_close_matches(name, classes, 1)
    known = ", ".join(map(escaped, classes[:_NAMED])) + (", ..." if len(classes) > _NAMED else "")
    raise ValueError(
        f"there is no class {name!r}; expected a number from 0 to {num_classes - 1}"
        + (f" or one of {known}" if classes else "")
        + (f"; did you mean {escaped(near[0])}?" if near else "")
    )


def check_record(run: Path, recipe: Recipe, record: DataRecord) -> None:
    """Check that a run that is gone on with has the images that it was begun with.

    A run of another recipe passes: it is for the trainer to refuse.

    Raises:
        ValueError: They have changed.
    """
    before = read_record(run)
    if before is None or before.sha256 == record.sha256 or not _holds(run, recipe):
        return
    raise ValueError(
        f"the images of {record.source} have changed since {run} was begun: there were {before.to_text()}, and now "
        f"there are {record.to_text()}, or others; put them back, or choose another folder for a new run"
    )


def write_record(run: Path, recipe: Recipe, record: DataRecord, dataset: Dataset) -> None:
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
    with hold(run):
        begun = (run / RECIPE).exists()
        if begun and (read_record(run) is not None or not _holds(run, recipe)):
            return
        if dataset.summary is not None and dataset.summary.skipped:
            write_skipped(dataset.summary, run / SKIPPED)
        if isinstance(dataset.splits.train, ImageSet):
            save_png(contact_sheet(dataset.splits.train), run / PICTURE)
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
