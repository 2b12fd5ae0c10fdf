"""Plots for light and dark, wide and narrow pages: curves, dots and heat maps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from fpdm.drawing.images import Png
from fpdm.drawing.numbers import decimals, fixed, short
from fpdm.drawing.sheets import rasterised
from fpdm.drawing.text import plain, shortened
from fpdm.drawing.theme import DARK, LIGHT, Theme
from fpdm.files import write_atomically

MARKERS = "osD^vPX<>p*h"
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))  # another one whenever the colours have been used up
INCH = 100  # pixels of the page
DPI = 160


@dataclass(frozen=True)
class Look:
    """The theme and the width of page that a plot is drawn for."""

    theme: Theme
    wide: bool

    @property
    def columns(self) -> int:
        """Number of panels side by side."""
        return 3 if self.wide else 1


class Plot(Protocol):
    """Data that can be drawn."""

    def draw(self, look: Look) -> Figure:
        """Draw the figure. Its width in inches is its width on the page in units of 100 pixels."""
        ...


@dataclass(frozen=True)
class Rendered:
    """A plot drawn for light and dark, wide and narrow pages."""

    light: Png
    dark: Png
    narrow_light: Png
    narrow_dark: Png


def render(plot: Plot) -> Rendered:
    """Draw a plot for light and dark, wide and narrow pages."""

    def form(theme: Theme, wide: bool) -> Png:
        return _png(plot.draw(Look(theme, wide)), DPI)

    return Rendered(form(LIGHT, True), form(DARK, True), form(LIGHT, False), form(DARK, False))


def save_svg_and_png(plot: Plot, path: Path) -> None:
    """Save a plot beside its text, for light and wide pages, as `path`.svg and `path`.png."""
    figure = plot.draw(Look(LIGHT, True))
    with rc_context({"svg.hashsalt": path.name}):  # the same bytes for the same plot
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    write_atomically(path.with_suffix(".png"), _png(figure, DPI).data)


def _png(figure: Figure, dpi: int) -> Png:
    # A palette makes a third of the size.
    image = rasterised(figure, dpi).quantize(32, dither=Image.Dither.NONE)
    return Png.of(image, round(image.width * INCH / dpi))


class Style(NamedTuple):
    """The style of one series in all plots."""

    color: str
    marker: str
    linestyle: object


def style(names: Sequence[str], name: str, theme: Theme, greys: Sequence[str] = ()) -> Style:
    """Return the style of `name`. No two of the first 12 `names` share a marker, or colour and dash.

    Those of `greys` are drawn in grey, and have the markers and the dashes to be told apart by.
    """
    if name in greys:
        i = [one for one in names if one in greys].index(name)
        return Style(theme.muted, MARKERS[-1 - i % len(MARKERS)], DASHES[i % len(DASHES)])
    i = [one for one in names if one not in greys].index(name)
    colours = theme.series[:-1] if greys else theme.series  # the last is a grey too
    dash = DASHES[i // len(colours) % len(DASHES)]
    return Style(colours[i % len(colours)], MARKERS[i % len(MARKERS)], dash)


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        name: One of the plot's `names`.
        x: Horizontal positions.
        y: Values.
        low: Lower ends of intervals, as many as `y`, or none.
        high: Upper ends of intervals.
        raw: Values before smoothing, drawn faintly, or none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    raw: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """Curves over the same horizontal axis.

    Attributes:
        x_label: Label of the axis, with its unit.
        curves: The curves.
        ticks: Positions that all curves share; empty if they do not share any. Curves with intervals are drawn slightly
            apart there.
        title: Text above the panel.
        floors: Values marked by dotted lines.
        linear: Whether the axis is linear even if its values span a wide range.
    """

    x_label: str
    curves: Sequence[Curve]
    ticks: Sequence[float] = ()
    title: str = ""
    floors: Sequence[float] = ()
    linear: bool = False


class _Vertical(NamedTuple):
    """The vertical scale: whether it is logarithmic, its lower end (None: automatic), and whether floors are within."""

    logarithmic: bool
    bottom: float | None
    floors_within: bool


@dataclass(frozen=True)
class Curves(Plot):
    """Panels with a common vertical axis and a legend below.

    Attributes:
        panels: The panels, side by side or, on a narrow page, one above the other.
        names: Names of all series of the report, so that each looks the same in all plots.
        labels: Their labels in the legend.
        y_label: Label of the vertical axis, with its unit.
        floor_label: Label of the dotted lines.
        logarithmic: Whether the vertical axis is always logarithmic, and not only if values span a factor of 10.
        greys: Names that are drawn in grey, behind the others.
    """

    panels: Sequence[Panel]
    names: Sequence[str]
    labels: Sequence[str]
    y_label: str
    floor_label: str = ""
    logarithmic: bool = False
    greys: Sequence[str] = ()

    def draw(self, look: Look) -> Figure:
        columns = min(len(self.panels), look.columns)
        rows = -(-len(self.panels) // columns)
        width = (3.3 * columns + 1.1 if columns > 1 else 6.8) if look.wide else 3.7
        vertical = self._vertical()
        handles, labels = self._legend(look, with_floor=vertical.floors_within)
        across = max(1, int(width / (0.083 * max(map(len, labels)) + 0.5)))
        legend_height = 0.21 * -(-len(labels) // across) + 0.2
        figure = _figure(width, (3.6 if look.wide else 3.2) * rows + legend_height, look.theme)
        all_axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
        for axes, panel in zip(all_axes, self.panels, strict=False):
            self._panel(axes, panel, look.theme, vertical)
        for axes in all_axes[len(self.panels) :]:
            axes.set_visible(False)
        for axes in all_axes[::columns]:
            axes.set_ylabel(plain(self.y_label))
        if vertical.logarithmic:
            all_axes[0].set_yscale("log")
            _logarithmic(all_axes[0].yaxis, self._ys())
        all_axes[0].set_ylim(bottom=vertical.bottom)
        # Given as texts, names that begin with an underscore would be left out.
        legend = figure.legend(
            handles,
            [str(i) for i in range(len(labels))],
            loc="outside lower center",
            ncols=min(across, len(labels)),
            frameon=False,
            fontsize=9,
            labelcolor=look.theme.text,
            handlelength=2.6,
        )
        for text, label in zip(legend.get_texts(), labels, strict=True):
            text.set_text(label)
        return figure

    def _ys(self) -> list[float]:
        return [y for panel in self.panels for curve in panel.curves for y in curve.y if np.isfinite(y)]

    def _vertical(self) -> _Vertical:
        ys = self._ys()
        floors = [floor for panel in self.panels for floor in panel.floors]
        lows = [y for panel in self.panels for curve in panel.curves for y in (*curve.low, *curve.raw)]
        if not (_is_wide(ys, 10) or (self.logarithmic and min(ys) > 0)):
            return _Vertical(False, 0.0 if min([*ys, *lows, *floors]) >= 0 else None, bool(floors))
        # A floor far below would squeeze all else into the upper half, so it is written down instead; and the lower end
        # of an interval may come close to 0, which a logarithmic scale never reaches.
        within = bool(floors) and min(floors) > min(ys) / 4
        ends = [y for y in (*lows, *(floors if within else ())) if y > min(ys) / 4]
        return _Vertical(True, min([*ys, *ends]) / (1.1 if within or not floors else 1.3), within)  # room for it

    def _legend(self, look: Look, *, with_floor: bool) -> tuple[list[Line2D], list[str]]:
        shown = {curve.name for panel in self.panels for curve in panel.curves}
        handles, labels = [], []
        for name, label in zip(self.names, self.labels, strict=True):
            if name in shown:
                drawn = style(self.names, name, look.theme, self.greys)
                handles.append(Line2D([], [], markersize=5, linewidth=1.4, **drawn._asdict()))
                labels.append(plain(shortened(label, 60 if look.wide else 40)))
        if with_floor:
            handles.append(Line2D([], [], color=look.theme.muted, linestyle=":", linewidth=1.4))
            labels.append(plain(self.floor_label))
        return handles, labels

    def _panel(self, axes: Axes, panel: Panel, theme: Theme, vertical: _Vertical) -> None:
        _dress(axes, theme)
        spreads = any(len(curve.low) for curve in panel.curves)
        shifts = _shifts(len(panel.curves), panel.ticks if spreads else ())
        for curve, shift in zip(panel.curves, shifts, strict=True):
            drawn = style(self.names, curve.name, theme, self.greys)
            above = 2 if curve.name in self.greys else 3
            x, y = np.asarray(curve.x, float) * shift, np.asarray(curve.y, float)  # (n,), (n,)
            if len(curve.low):
                spread = np.stack([y - np.asarray(curve.low), np.asarray(curve.high) - y]).clip(0)  # (2, n)
                axes.errorbar(
                    x, y, yerr=spread, fmt="none", ecolor=drawn.color, elinewidth=1.1, alpha=0.65, zorder=above
                )
            if len(curve.raw):
                axes.plot(x, curve.raw, color=drawn.color, linewidth=0.6, alpha=0.22, zorder=above)
            # On a long curve a marker at every point would hide it, and at the same places would hide another's.
            every = (self.names.index(curve.name) * len(x) // 80, max(1, len(x) // 6)) if len(x) > 40 else 1
            axes.plot(x, y, markersize=5, linewidth=1.4, markevery=every, zorder=above, **drawn._asdict())
        for floor in panel.floors:
            if vertical.floors_within:
                axes.axhline(floor, color=theme.muted, linestyle=":", linewidth=1.4)
        if panel.floors and not vertical.floors_within:
            note = f"↓ {self.floor_label}: {short(min(panel.floors))}"
            axes.annotate(plain(note), (0.02, 0.02), xycoords="axes fraction", fontsize=8.5, color=theme.muted)
        axes.set_xlabel(plain(panel.x_label))
        axes.set_title(plain(panel.title), fontsize=10, color=theme.text)
        xs = [x for curve in panel.curves for x in curve.x]
        if panel.ticks or (not panel.linear and _is_wide(xs, 4)):
            axes.set_xscale("log")
            _logarithmic(axes.xaxis, xs)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter("{x:,g}")
        if panel.ticks:
            ticks = list(panel.ticks) if len(panel.ticks) < 8 else list(panel.ticks)[:: -(-len(panel.ticks) // 7)]
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.set_xlim(min(xs) / _room(panel.ticks), max(xs) * _room(panel.ticks))


@dataclass(frozen=True)
class DotPanel:
    """One value per series.

    Attributes:
        label: Label of the axis, with its unit.
        values: A value per name; nan for none.
        highs: Right ends of lines that start at the values, or none.
    """

    label: str
    values: Sequence[float]
    highs: Sequence[float] = ()


@dataclass(frozen=True)
class Dots(Plot):
    """Dots by name: a line per name and a panel per kind of value. Those of `greys` are grey."""

    panels: Sequence[DotPanel]
    names: Sequence[str]
    greys: Sequence[str] = ()

    def draw(self, look: Look) -> Figure:
        columns = min(len(self.panels), look.columns)
        rows = -(-len(self.panels) // columns)
        figure = _figure(11 if look.wide else 3.7, rows * (0.27 * len(self.names) + 0.75), look.theme)
        for i, panel in enumerate(self.panels):
            axes = figure.add_subplot(rows, columns, i + 1)
            self._panel(axes, panel, look)
            names = [plain(shortened(name, 34 if look.wide else 22)) for name in self.names]
            axes.set_yticks(range(len(names)), names if i % columns == 0 else [""] * len(names))
        return figure

    def _panel(self, axes: Axes, panel: DotPanel, look: Look) -> None:
        theme = look.theme
        _dress(axes, theme)
        axes.tick_params(axis="y", labelcolor=theme.text, length=0)
        places = decimals(panel.values)
        for i, (name, value) in enumerate(zip(self.names, panel.values, strict=True)):
            drawn = style(self.names, name, theme, self.greys)
            high = panel.highs[i] if panel.highs else value
            axes.plot([value, high], [i, i], color=drawn.color, linewidth=1.6)
            axes.plot([value], [i], color=drawn.color, marker=drawn.marker, markersize=6)
            axes.annotate(
                fixed(value, places),
                (high, i),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=theme.text,
            )
        axes.set_ylim(len(self.names) - 0.4, -0.6)
        axes.set_xlabel(plain(panel.label))
        known = [value for value in (*panel.values, *panel.highs) if np.isfinite(value)]
        if _is_wide(known, 10):
            axes.set_xscale("log")
            _logarithmic(axes.xaxis, known, 5 if look.wide else 3)
            axes.set_xlim(min(known) / 1.5, max(known) * (max(known) / min(known)) ** 0.35)  # room for the numbers
        elif known:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter("{x:,g}")
            axes.set_xlim(0, max(known) * 1.3 or 1)


@dataclass(frozen=True)
class HeatMap:
    """Positive values (rows, columns); NaN or 0 leaves a cell empty.

    Attributes:
        title: Text above the map.
        rows: Labels of the rows.
        columns: Labels of the columns.
        values: The values.
        marks: A number of columns for each row, after which a line is drawn; none for no line.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    marks: Sequence[float] = ()


@dataclass(frozen=True)
class HeatMaps(Plot):
    """Heat maps with a common logarithmic colour scale."""

    maps: Sequence[HeatMap]
    row_label: str
    column_label: str
    value_label: str

    def draw(self, look: Look) -> Figure:
        columns = min(len(self.maps), look.columns)
        rows = -(-len(self.maps) // columns)
        width = (3.2 * columns + 1.4 if columns > 1 else 6.0) if look.wide else 3.7
        figure = _figure(width, 2.7 * rows + 0.3, look.theme)
        all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
        seen = [value for one in self.maps for row in one.values for value in row if np.isfinite(value) and value > 0]
        norm = LogNorm(min(seen, default=0.1), max([*seen, 1.01 * min(seen, default=1.0)]))
        image = None
        for i, (axes, one) in enumerate(zip(all_axes, self.maps, strict=False)):
            _dress(axes, look.theme)
            axes.grid(False)
            axes.set_facecolor(look.theme.shade)
            image = axes.imshow(np.asarray(one.values, float), norm=norm, cmap="viridis", aspect="auto")
            axes.set_title(plain(shortened(one.title, 36 if columns > 1 else 80)), fontsize=9.5, color=look.theme.text)
            if one.marks:
                edges = [-0.5 + row for row in range(len(one.marks) + 1)]
                where = [min(mark, len(one.columns)) - 0.5 for mark in (*one.marks, one.marks[-1])]
                axes.step(where, edges, where="pre", color="white", linewidth=2.0)
                axes.set_ylim(len(one.rows) - 0.5, -0.5)
            _places(axes.xaxis, one.columns, 10)
            _places(axes.yaxis, one.rows, 10)
            axes.set_xlabel(self.column_label if i + columns >= len(self.maps) else "")
            axes.set_ylabel(self.row_label if i % columns == 0 else "")
        for axes in all_axes[len(self.maps) :]:
            axes.set_visible(False)
        assert image is not None
        bar = figure.colorbar(
            image,
            ax=list(all_axes),
            label=self.value_label,
            location="right" if look.wide else "bottom",
            aspect=30,
            shrink=min(1.0, 2.0 / rows) if look.wide else 1.0,
        )
        long = bar.ax.yaxis if look.wide else bar.ax.xaxis
        _logarithmic(long, seen)
        if max(seen, default=99) <= 20 and all(value == int(value) for value in seen):
            long.set_major_locator(FixedLocator(sorted({*seen})))
        long.label.set_color(look.theme.muted)
        bar.ax.tick_params(colors=look.theme.muted, labelsize=8.5)
        bar.outline.set_edgecolor(look.theme.line)  # type: ignore[operator]  # a patch, whatever the stubs say
        return figure


def _figure(width: float, height: float, theme: Theme) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", facecolor=theme.background)


def _dress(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.background)
    axes.set_axisbelow(True)
    axes.grid(color=theme.line, linewidth=0.6)
    axes.tick_params(colors=theme.muted, labelsize=8.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.muted)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.muted)
        label.set_fontsize(9.5)


def _is_wide(values: Iterable[float], factor: float) -> bool:
    """Return whether all values are positive and span more than `factor`."""
    known = [value for value in values if np.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) > factor * min(known)


def _logarithmic(axis: Axis, values: Iterable[float], most: int = 8) -> None:
    """Set ticks at round numbers, at most `most` within the values."""
    known = [value for value in values if value > 0] or [1.0]
    decades = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)

    def within(subs: tuple[float, ...]) -> int:
        return sum(min(known) <= sub * 10.0**decade <= max(known) for decade in decades for sub in subs)

    choices = ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
    axis.set_major_locator(LogLocator(subs=next((subs for subs in choices if within(subs) <= most), choices[-1])))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda x, _: f"{x:,.10g}" if 1e-4 <= x < 1e6 else f"{x:.0e}")


def _room(ticks: Sequence[float]) -> float:
    """Return the factor by which curves may be moved away from ticks without reaching the next."""
    ordered = sorted(ticks)
    gap = min((high / low for low, high in pairwise(ordered)), default=2.0)
    return gap**0.3


def _shifts(count: int, ticks: Sequence[float]) -> list[float]:
    """Return factors for the positions of `count` curves, so that their intervals do not overlap at shared ticks."""
    if not ticks:
        return [1.0] * count
    return [_room(ticks) ** (min(count, 10) / 10 * ((i + 0.5) / count - 0.5)) for i in range(count)]


def _places(axis: Axis, labels: Sequence[str], most: int) -> None:
    step = -(-len(labels) // most)
    axis.set_ticks(list(range(0, len(labels), step)), list(labels[::step]))
