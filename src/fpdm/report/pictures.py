"""Pictures: grids of images, sheets of samples, curves."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor


def to_array(images: Tensor) -> np.ndarray:
    """(N, C, H, W) uint8 to (N, H, W, 3) uint8; one channel is repeated."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"the images have {images.shape[1]} channels; expected 1 (grey) or 3 (RGB)")
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()


def save_png(image: np.ndarray, path: Path) -> None:
    """Write (H, W) or (H, W, 3) uint8 as a PNG, whole or not at all."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.png")
    try:
        Image.fromarray(image).save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def tile(images: Tensor, columns: int, *, gap: int) -> np.ndarray:
    """(N, C, H, W) uint8 as one picture with `gap` pixels of white between images, (h, w, 3) uint8."""
    array = to_array(images)  # (N, H, W, 3)
    n, h, w, _ = array.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i in range(n):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = array[i]
    return sheet


@dataclass(frozen=True)
class Row:
    """One line of a sheet: a caption and images (N, C, H, W) uint8."""

    caption: str
    images: Tensor


def save_sheet(rows: Sequence[Row], path: Path, *, title: str) -> None:
    """Rows of images with a caption each, under a title. All rows hold equally many.

    Images are enlarged smoothly: the eye reads 8 x 8 pixels better so.
    """
    assert len({len(row.images) for row in rows}) == 1
    count = len(rows[0].images)
    width = 10.0
    height = (width - 1.9) / count * len(rows) + 0.6
    figure = Figure(figsize=(width, height), dpi=150)
    figure.suptitle(title, fontsize=11, y=1 - 0.22 / height)
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(left=1.8 / width, right=0.99, top=1 - 0.5 / height, bottom=0.05 / height, hspace=0.06)
    for axis, row in zip(axes, rows, strict=True):
        axis.imshow(tile(enlarged(row.images), count, gap=4), interpolation="nearest", aspect="equal")
        axis.set_axis_off()
        axis.text(-0.01, 0.5, row.caption, transform=axis.transAxes, ha="right", va="center", fontsize=8.5)
    figure.savefig(path)


def enlarged(images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 to at least 64 pixels a side, bicubic."""
    side = images.shape[3]
    wide = F.interpolate(images.float(), scale_factor=max(1, -(-64 // side)), mode="bicubic")  # (N, C, h, w)
    return wide.round().clamp(0, 255).to(images.dtype)  # (N, C, h, w)


@dataclass(frozen=True)
class Curve:
    """One line of a plot, with intervals; `low`, `y` and `high` are as long as `x`."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Curves over one x."""

    x_label: str
    curves: Sequence[Curve]


def save_curves(panels: Sequence[Panel], path: Path, *, title: str, y_label: str, floor: float) -> None:
    """Panels side by side, x logarithmic, with intervals, and a dotted line where real images lie."""
    figure = Figure(figsize=(4.2 * len(panels) + 0.8, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, panel in zip(axes, panels, strict=True):
        for curve, marker in zip(panel.curves, "osD^v<>ph*" * 10, strict=False):
            y = np.asarray(curve.y)
            spread = np.maximum(np.stack([y - np.asarray(curve.low), np.asarray(curve.high) - y]), 0)
            axis.errorbar(curve.x, y, yerr=spread, marker=marker, markersize=5, capsize=3, label=curve.name)
        axis.axhline(floor, color="0.4", linestyle=":", label="real images (training split)")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        if len({tuple(curve.x) for curve in panel.curves}) == 1:
            axis.set_xticks(panel.curves[0].x)
        axis.set_ylim(bottom=0)
        axis.set_xlabel(panel.x_label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(y_label)
    figure.suptitle(title, fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)
