"""The image sheet of a comparison: the first images of every result in one lossless PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fpdm.compare.answer import headline
from fpdm.compare.results import Comparison, ImageRow, ImageSheet
from fpdm.drawing.images import images_from_png, images_to_png
from fpdm.drawing.sheets import Row, Sheet
from fpdm.files import read_bytes, write_atomically

FILE = "images.png"
_LIMIT = 2**30  # bytes


def write_image_sheet(folder: Path, images: Mapping[ImageRow, Tensor]) -> ImageSheet:
    """Write the image sheet into a folder.

    Args:
        folder: The folder.
        images: The images of each row, (N, C, H, W) uint8, with equal N and shape.
    """
    (columns,) = {len(row) for row in images.values()}
    write_atomically(folder / FILE, images_to_png(torch.cat([*images.values()]), columns))
    return ImageSheet(columns, tuple(images))


def read_image_sheet(folder: Path, sheet: ImageSheet) -> dict[ImageRow, Tensor]:
    """Read the image sheet in a folder: the images of each row, (N, C, H, W) uint8.

    Raises:
        ValueError: There is none, it is damaged, or its size does not fit its description.
    """
    path = folder / FILE
    try:
        images = images_from_png(read_bytes(path, _LIMIT), sheet.columns, len(sheet.rows))
    except FileNotFoundError:
        raise ValueError(f"there is no {FILE} in {folder}; put it back beside compare.json") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; put the original back") from error
    return dict(zip(sheet.rows, images.split(sheet.columns), strict=True))


def answer_sheet(comparison: Comparison, images: Mapping[ImageRow, Tensor]) -> Sheet | None:
    """Arrange the images of the results that the answer names, and real ones; None if they are not there."""
    found = headline(comparison)
    rows = [
        Row(f"{row.model}\n{row.steps} x {row.iterations}", images[key])
        for row in found.rows
        if (key := ImageRow("samples", row.model, row.budget, row.sampler)) in images
    ]
    if not rows:
        return None
    rows += [Row("real\n(test images)", shown) for key, shown in images.items() if key.kind == "real"]
    return Sheet(
        f"Samples at {found.first.budget:,} block passes, as steps x iterations, from the same noise and classes", rows
    )


def report_sheets(comparison: Comparison, images: Mapping[ImageRow, Tensor]) -> list[Sheet]:
    """Arrange the images for the report: a sheet per budget, and one of nearest training images."""
    sampler = comparison.rows[0].sampler
    sheets = []
    for budget in sorted({row.budget for row in comparison.rows}):
        rows = [
            Row(f"{r.model}\n{r.steps} x {r.iterations}", images[key])
            for r in comparison.rows
            if (r.budget, r.sampler) == (budget, sampler)
            and (key := ImageRow("samples", r.model, r.budget, r.sampler)) in images
        ]
        if rows:
            rows += [Row("real\n(test images)", shown) for key, shown in images.items() if key.kind == "real"]
            title = f"{budget} block passes, as steps x iterations: every column starts from the same noise and class"
            sheets.append(Sheet(title, rows))
    pairs: list[Row] = []
    for key, shown in images.items():
        if key.kind == "nearest":
            samples = images[ImageRow("samples", key.model, key.budget, key.sampler)]
            pairs += [Row(key.model, samples), Row("nearest\ntraining images", shown)]
    if pairs:
        budget = max(key.budget for key in images if key.kind == "nearest")
        sheets.append(Sheet(f"nearest training images, in features, to samples at {budget} block passes", pairs))
    return sheets
