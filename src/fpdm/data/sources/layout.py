"""Whether the sub-folders of a set of images are its classes, by where the images lie that can be read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fpdm.data.decode import escaped
from fpdm.data.sources.source import Skipped, check_most_used
from fpdm.data.splits import counted, listed

_FEW = 0.1  # the largest share of the images that may be left out, which is then reported
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}


class Layout(NamedTuple):
    """Which images of a set are used.

    Attributes:
        paths: Those that are, in order.
        in_classes: Whether the first part of each path is its class.
        skipped: Those that are not, and why.
    """

    paths: list[Path]
    in_classes: bool
    skipped: list[Skipped]


def layout(paths: Sequence[Path], name: str, error: Callable[[Path], str]) -> Layout:
    """Decide whether the folders in a set of images are classes.

    Where all images lie in folders they are; where none does, there are no classes. Where both occur, those images
    decide that can be read, and the others are skipped if they are few.

    Args:
        paths: Paths of all images, relative to the set.
        name: The set's name in messages.
        error: Returns why an image cannot be read, or ""; called only if images lie in folders and beside them.

    Raises:
        ValueError: Many images would be left out, or the folders are no classes but the splits of a set, or a single
            folder with the classes in it.
    """
    inside = [path for path in paths if len(path.parts) > 1]
    if not inside or len(inside) == len(paths):
        _check_names(inside, name)
        return Layout([*paths], bool(inside), [])
    errors = {path: error(path) for path in paths}
    nested = sum(not errors[path] for path in inside)
    beside = sum(not reason for reason in errors.values()) - nested
    folders = list(dict.fromkeys(path.parts[0] for path in inside if not errors[path]))
    if min(nested, beside) > _FEW * (nested + beside):
        raise ValueError(
            f"{name}: {counted(beside, 'image')} and the sub-folder{'s' * (len(folders) > 1)} {listed(folders)} with "
            f"{nested}: are these classes? Move the {'images' if nested > beside else 'sub-folders'} elsewhere"
        )
    in_classes = nested >= beside
    kept = [path for path in paths if (len(path.parts) > 1) == in_classes]
    why = "lies beside the class folders" if in_classes else "lies in a sub-folder, and most images beside it"
    skipped = [Skipped(path, errors[path] or why) for path in paths if (len(path.parts) > 1) != in_classes]
    _check_names(inside if in_classes else [], name)
    return Layout(kept, in_classes, skipped)


def check_labelled(without: int, count: int, name: str) -> None:
    """Check that most of the images of a labelled set have a class; the others are left out.

    Raises:
        ValueError: Most have none.
    """
    check_most_used(without, count, name, "have no class", "expected one for each, or for none")


def _check_names(inside: Sequence[Path], name: str) -> None:
    """Raise a `ValueError` if folders with images in them are no classes."""
    folders = list(dict.fromkeys(path.parts[0] for path in inside))
    if len(folders) > 1 and {one.lower() for one in folders} <= _SPLIT_NAMES:
        largest = escaped(Counter(path.parts[0] for path in inside).most_common(1)[0][0])
        raise ValueError(
            f"{name} has the sub-folders {listed(folders)}, which are splits and no classes; give one of them, such "
            f"as {name}/{largest}, or rename them"
        )
    only = Path(os.path.commonpath([path.parent for path in inside])) if inside else Path()
    depth = len(only.parts)
    if depth and all(len(path.parts) > depth + 1 for path in inside):  # so that it has sub-folders only
        deeper = {path.parts[depth] for path in inside}
        raise ValueError(
            f"{name} has only the sub-folder {escaped(only)}, which has {len(deeper)} of its own; give the "
            "folder that holds the classes"
        )
