from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from fpdm.drawing.plots import Curve, Curves, DotPanel, Dots, HeatMap, HeatMaps, Look, Panel, Plot, render, style
from fpdm.drawing.sheets import rasterised
from fpdm.drawing.theme import DARK, LIGHT, Theme

NAMES = tuple(f"model-{i}" for i in range(12))
WIDE = Look(LIGHT, wide=True)


def curves(scale: float = 1.0, count: int = 3, *, floor: float = 0.5, span: float = 2.0) -> Curves:
    """Curves over three budgets, from `scale` to `scale * span`."""
    made = []
    for i in range(count):
        y = [scale * span ** ((i + k) / (count + 1)) for k in (2, 1, 0)]
        made.append(Curve(NAMES[i], [35, 70, 140], y, [0.9 * v for v in y], [1.1 * v for v in y]))
    return Curves([Panel("passes", made, (35, 70, 140), floors=[floor])], NAMES, NAMES, "distance", "real images")


def drawn(figure: Figure) -> Axes:
    return figure.axes[0]


def line_of(figure: Figure, name: str) -> Line2D:
    """The line that is drawn in the style of a name."""
    look = style(NAMES, name, LIGHT)
    return next(
        line
        for line in drawn(figure).lines
        if to_hex(line.get_color()) == look.color and line.get_marker() == look.marker  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_twelve_models_look_different(theme: Theme) -> None:
    looks = [style(NAMES, name, theme) for name in NAMES]
    assert len({look.marker for look in looks}) == 12
    assert len({(look.color, str(look.linestyle)) for look in looks}) == 12


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_stand_out_from_the_background(theme: Theme) -> None:
    def luminance(colour: str) -> float:  # of WCAG 2
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    assert contrast(theme.text, theme.background) > 7
    assert contrast(theme.muted, theme.background) > 4.5
    assert min(contrast(colour, theme.background) for colour in theme.series) > 2.4


def test_a_model_looks_the_same_whoever_else_is_drawn() -> None:
    alone = Curves([Panel("x", [Curve(NAMES[5], [1, 2], [3, 4])])], NAMES, NAMES, "y").draw(WIDE)
    many = Curves([Panel("x", [Curve(n, [1, 2], [3, 4]) for n in NAMES])], NAMES, NAMES, "y").draw(WIDE)
    assert line_of(alone, NAMES[5]).get_linestyle() == line_of(many, NAMES[5]).get_linestyle()


def test_values_are_drawn_where_they_are() -> None:
    made = Curve(NAMES[0], [1, 2, 3], [4, 5, 6], [3, 4, 5], [6, 7, 8])
    figure = Curves([Panel("x", [made], linear=True)], NAMES, NAMES, "y").draw(WIDE)
    line = line_of(figure, NAMES[0])
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 3], [4, 5, 6])  # type: ignore[arg-type]
    (bars,) = drawn(figure).collections
    segments = [np.asarray(path.vertices).tolist() for path in bars.get_paths()]
    assert segments == [[[1, 3], [1, 6]], [[2, 4], [2, 7]], [[3, 5], [3, 8]]]


def test_curves_at_shared_ticks_stand_side_by_side_but_near() -> None:
    figure = curves(count=12).draw(WIDE)
    first = [float(line_of(figure, name).get_xdata()[0]) for name in NAMES]  # type: ignore[index]
    assert sorted(set(first)) == first
    assert all(35 / 2**0.5 < x < 35 * 2**0.5 for x in first)
    three = curves(count=3).draw(WIDE)
    assert [float(line_of(three, name).get_xdata()[1]) for name in NAMES[:3]] == pytest.approx(  # type: ignore[index]
        [70, 70, 70], rel=0.05
    )
    assert [float(tick) for tick in drawn(figure).get_xticks()] == [35, 70, 140]


def test_wide_ranges_are_logarithmic_and_others_begin_at_zero() -> None:
    near = drawn(curves(span=3).draw(WIDE))
    assert (near.get_yscale(), near.get_ylim()[0]) == ("linear", 0)
    far = drawn(curves(span=30).draw(WIDE))
    assert far.get_yscale() == "log"
    assert far.get_ylim()[0] < 0.9  # the lowest interval is within
    forced = Curves([Panel("x", [Curve(NAMES[0], [1, 2], [1.0, 1.2])])], NAMES, NAMES, "y", logarithmic=True)
    assert drawn(forced.draw(WIDE)).get_yscale() == "log"


def dotted(axes: Axes) -> list[float]:
    return [float(line.get_ydata()[0]) for line in axes.lines if line.get_linestyle() == ":"]  # type: ignore[index]


def test_the_floor_is_a_dotted_line_where_it_squeezes_nothing_and_a_note_elsewhere() -> None:
    assert dotted(drawn(curves(floor=0.01, span=3).draw(WIDE))) == [0.01]
    assert dotted(drawn(curves(floor=0.4, span=30).draw(WIDE))) == [0.4]
    below = drawn(curves(floor=0.01, span=30).draw(WIDE))
    assert dotted(below) == []
    assert [text.get_text() for text in below.texts] == ["↓ real images: 0.0100"]


def test_values_below_zero_are_in_sight() -> None:
    made = Curve(NAMES[0], [1, 2], [-0.5, 30.0], [-1.0, 29.0], [0.5, 31.0])
    axes = drawn(Curves([Panel("x", [made], floors=[-2.0])], NAMES, NAMES, "y", "real").draw(WIDE))
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] < -2
    assert dotted(axes) == [-2.0]


def test_the_legend_names_those_that_are_drawn_whatever_they_are_called() -> None:
    names = ("_hidden", "$x_1$", "名前", "a" * 200, "absent", r"\frac{")
    made = [Curve(name, [1, 2], [1, 2]) for name in names if name != "absent"]
    figure = Curves([Panel("$x$", made)], names, names, "$y$").draw(WIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rasterised(figure, 20)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:3] == ["_hidden", r"\$x_1\$", "名前"]
    assert texts[4] == r"\frac{"
    assert len(texts) == 5
    assert len(texts[3]) == 60


def test_long_curves_are_marked_here_and_there_with_the_raw_values_behind() -> None:
    x = list(range(1, 401))
    figure = Curves([Panel("x", [Curve(NAMES[0], x, x, raw=x)])], NAMES, NAMES, "y").draw(WIDE)
    raw, smooth = drawn(figure).lines
    assert raw.get_alpha() == pytest.approx(0.22)
    assert raw.get_marker() == "None"
    assert smooth.get_markevery() == (0, 66)


def plots() -> list[Plot]:
    return [
        curves(count=12, span=30),
        Curves([Panel("x", [Curve(NAMES[0], [140], [1.0], [0.9], [1.2])], (140,))], NAMES, NAMES, "y"),
        Dots([DotPanel("steps", [1.0] * 12), DotPanel("bytes", [10 ** (i / 4) for i in range(12)])], NAMES),
        HeatMaps([HeatMap("m", ["9", "1"], ["1", "2"], [[0.5, 0.1], [0.0, math.nan]])], "t", "k", "residual"),
    ]


@pytest.mark.parametrize("plot", plots(), ids=lambda plot: type(plot).__name__)
def test_forms_are_pngs_on_their_page_and_fit_it(plot: Plot) -> None:
    forms = render(plot)
    for png, theme, widest in (
        (forms.light, LIGHT, 1120),
        (forms.dark, DARK, 1120),
        (forms.narrow_light, LIGHT, 390),
        (forms.narrow_dark, DARK, 390),
    ):
        with Image.open(io.BytesIO(png.data)) as image:
            assert image.format == "PNG"
            corners = {image.convert("RGB").getpixel(p) for p in ((0, 0), (image.width - 1, image.height - 1))}
            assert image.width >= 1.5 * png.width  # sharp on sharp screens
            assert image.height / image.width == pytest.approx(png.height / png.width, rel=0.02)
        assert corners == {tuple(round(255 * part) for part in to_rgb(theme.background))}
        assert png.width <= widest


def test_panels_stand_beside_or_above_one_another() -> None:
    plot = Curves([Panel("x", [Curve(NAMES[0], [1], [1])])] * 4, NAMES, NAMES, "y")
    for look, columns, rows in ((WIDE, 3, 2), (Look(LIGHT, wide=False), 1, 4)):
        places = [axes.get_subplotspec() for axes in plot.draw(look).axes if axes.get_visible()]
        assert len(places) == 4
        assert {(place.get_gridspec().ncols, place.get_gridspec().nrows) for place in places if place} == {
            (columns, rows)
        }


def test_heat_maps_share_a_logarithmic_scale() -> None:
    maps = [
        HeatMap("a", ["9"], ["1", "2"], [[1.0, 0.1]]),
        HeatMap("b", ["9"], ["1", "2"], [[0.01, 0.0]]),
    ]
    figure = HeatMaps(maps, "timestep", "iteration", "change").draw(WIDE)
    norms = [axes.images[0].norm for axes in figure.axes if axes.images]
    assert len(norms) == 2
    assert all(isinstance(norm, LogNorm) and (norm.vmin, norm.vmax) == (0.01, 1.0) for norm in norms)


@pytest.mark.parametrize("value", [0.0, 0.3, math.nan])
def test_a_heat_map_of_one_value_can_be_drawn(value: float) -> None:
    figure = HeatMaps([HeatMap("a", ["9"], ["1"], [[value]])], "t", "k", "change").draw(WIDE)
    rasterised(figure, 20)


def test_dots_are_where_the_values_are_and_say_them() -> None:
    plot = Dots([DotPanel("saved", [2.2, math.nan, 18.2], [3.5, math.nan, 18.2])], NAMES[:3])
    axes = drawn(plot.draw(WIDE))
    assert [text.get_text() for text in axes.texts] == ["2.2", "–", "18.2"]
    reach = axes.lines[0].get_xdata()
    assert list(reach) == [2.2, 3.5]  # type: ignore[arg-type]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES[:3])
