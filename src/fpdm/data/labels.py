"""Labels for generated images, and class names on the command line."""

from __future__ import annotations

import difflib
import heapq
import unicodedata
import warnings
from collections.abc import Sequence
from fractions import Fraction

from fpdm.errors import printable


def balanced_labels(indices: Sequence[int], num_classes: int) -> list[int]:
    """Return label i modulo the number of classes for image i; all 0 for an unconditional model."""
    return [index % max(num_classes, 1) for index in indices]


def proportional_labels(count: int, sizes: Sequence[int]) -> list[int]:
    """Return labels for `count` images, as close to the classes' proportions as possible after every image.

    Each label is that of the largest size / (2 images so far + 1) (Webster's method); equal sizes give label i modulo
    the number of classes.

    Args:
        count: Number of images.
        sizes: Sizes of the classes, at least one above 0; empty if there are no classes, and all labels are 0.
    """
    if not sizes:
        return [0] * count
    claims = [(-Fraction(size), label) for label, size in enumerate(sizes)]  # the strongest first
    heapq.heapify(claims)
    labels, given = [], [0] * len(sizes)
    for _ in range(count):
        label = claims[0][1]
        labels.append(label)
        given[label] += 1
        heapq.heapreplace(claims, (-Fraction(sizes[label], 2 * given[label] + 1), label))
    return labels


def labels_by_name(classes: Sequence[str]) -> dict[str, int]:
    """Return the label of every name of a class; a class may have several, separated by commas, as those of ImageNet.

    Of classes that share a name, the first has it. The labels ascend.
    """
    found: dict[str, int] = {}
    for label, name in enumerate(classes):
        found.setdefault(name, label)
    for label, name in enumerate(classes):
        for part in map(str.strip, name.split(",")):
            if part:
                found.setdefault(part, label)
    return dict(sorted(found.items(), key=lambda one: one[1]))


def warn_of_look_alikes(classes: Sequence[str]) -> None:
    """Warn of two classes whose names people may take for one: in case, in spaces, or in how accents are encoded."""
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(_composed(name).casefold().strip(), name)
        if other != name:  # as ImageNet has names twice
            warnings.warn(
                f"the classes {other!a} and {name!a} differ in no more than case, spaces or the encoding of "
                "accents; if they are one class, put their images together",
                RuntimeWarning,
                stacklevel=3,
            )


def _composed(name: str) -> str:
    """Return a name with its accents as keyboards type them; file systems of macOS keep them apart from the letters."""
    return unicodedata.normalize("NFC", name)


_NAMED = 10  # classes in a message
_DIGITS = 20  # more than an int64 has


def class_label(name: str, classes: Sequence[str], num_classes: int, numbers: Sequence[int] = ()) -> int:
    """Return the label of a class, given by its name or by the number that it has in the data.

    A number is never a place in the list of names: with the folders 3 and 7, "0" is no class.

    Args:
        name: The name or number.
        classes: Class names in the order of their labels; none if they are unknown, and numbers are the model's labels.
        num_classes: Number of classes of the model.
        numbers: The data's own number of each class; none if it has only names.

    Raises:
        ValueError: There is no such class; the message names the nearest one.
    """
    if not num_classes:
        raise ValueError(f"there is no class {name!r}: the model was trained without classes; leave the class out")
    known_labels = labels_by_name(classes)
    if name in known_labels:
        return known_labels[name]
    alike = {label for known, label in known_labels.items() if _composed(known) == _composed(name)}
    if len(alike) == 1:
        return alike.pop()
    own = numbers if classes else range(num_classes)
    if name.isdecimal() and len(name) < _DIGITS and int(name) in own:
        return own.index(int(name))
    near = difflib.get_close_matches(name, list(known_labels), 1)
    known = ", ".join(map(printable, classes[:_NAMED])) + (", ..." if len(classes) > _NAMED else "")
    raise ValueError(
        f"there is no class {name!r}; expected "
        + (f"a number from {min(own)} to {max(own)}" if own else "")
        + (" or " if own and classes else "")
        + (f"one of {known}" if classes else "")
        + (f"; did you mean {printable(near[0])}?" if near else "")
    )
