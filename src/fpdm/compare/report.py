"""The report of a comparison: one page that stands alone, and its pictures beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from fpdm.compare.report_sections import convergence_section, models_section, settings_section, training_section
from fpdm.compare.results import Comparison, Result
from fpdm.drawing.figures import Album
from fpdm.drawing.numbers import MISSING, decimals, fixed, short, unit
from fpdm.drawing.page import Block, Bullets, Cell, Code, Figure, Fold, Group, Page, Paragraph, Section, Table
from fpdm.drawing.plots import Curve, Curves, Panel
from fpdm.drawing.ranking import Estimate, Standing, verdict
from fpdm.drawing.sheets import Sheet
from fpdm.drawing.text import listing
from fpdm.files import write_atomically

DISTANCE = "Fréchet distance"
LEVEL = "95\u00a0%"  # no line breaks within it
REAL = "real training images"


def write_report(comparison: Comparison, sheets: Sequence[Sheet], out: Path) -> Path:
    """Write `report.html`, which needs no other file, and its figures and sheets as PNGs beside it.

    Args:
        comparison: What was found; at least one model and one row.
        sheets: Images to show, in this order. A PNG is named after what its sheet's title has before a colon.
        out: The folder; made if need be.

    Returns:
        The page.
    """
    assert comparison.models
    assert comparison.rows
    out.mkdir(parents=True, exist_ok=True)
    view, album, models = View(comparison), Album(out), comparison.models
    sections = [
        _answer(view),
        _quality(view, album),
        Section("Samples", album.sheets(sheets)),
        _results(view),
        models_section(models, album),
        convergence_section(models, album),
        training_section(models, view.names, album),
        settings_section(models, comparison.settings),
        _reading(view),
    ]
    page = Page(_title(view), _subtitle(view), [section for section in sections if section.blocks])
    path = out / "report.html"
    write_atomically(path, page.html())
    return path


class View:
    """The rows of a comparison, looked at in the ways that the sections need.

    Attributes:
        comparison: As given.
        rows: Its rows.
        names: Of the models; their order decides how each looks in all figures.
        samplers: In the order of the rows.
        budgets: From small to large.
        parameters: By model.
        real_count: How many real images the floors are of, in words.
        timed: Whether all rows say how long they took; 0 seconds say nothing.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.rows = comparison.rows
        self.names = tuple(dict.fromkeys(one.model for one in (*comparison.models, *self.rows)))
        self.samplers = tuple(dict.fromkeys(row.sampler for row in self.rows))
        self.budgets = tuple(sorted({row.budget for row in self.rows}))
        self.parameters = {one.model: one.parameters for one in (*self.rows, *comparison.models)}
        fewer = sorted({row.floor_images for row in self.rows if row.floor_images < row.images})
        all_there_are = f" or the {listing([f'{count:,}' for count in fewer])} that there are" if fewer else ""
        self.real_count = f"as many as were generated{all_there_are}"
        self.timed = all(math.isfinite(row.seconds) and row.seconds > 0 for row in self.rows)

    def of_sampler(self, sampler: str) -> list[Result]:
        """The rows of a sampler, by budget, the models in order."""
        mine = [row for row in self.rows if row.sampler == sampler]
        return sorted(mine, key=lambda row: (row.budget, self.names.index(row.model)))

    def best(self, budget: int) -> list[Result]:
        """For each model that was measured there, its row with the sampler that was best on the validation images."""
        rows = sorted((row for row in self.rows if row.budget == budget), key=_choosing_distance)
        first = {row.model: row for row in reversed(rows)}
        return [first[name] for name in self.names if name in first]

    def curves(self, panels: Sequence[Panel], y_label: str) -> Curves:
        """A plot of panels, with parameters in the legend."""
        labels = [f"{name} ({_count(self.parameters[name])})" for name in self.names]
        return Curves(panels, self.names, labels, y_label, REAL)


def _title(view: View) -> str:
    what = view.names[0] if len(view.names) == 1 else f"{len(view.names)} models compared"
    return f"{what} on {view.comparison.data}"


def _subtitle(view: View) -> str:
    images = listing([f"{count:,}" for count in sorted({row.images for row in view.rows})])
    budgets = listing([f"{budget:,}" for budget in view.budgets])
    return (
        f"{images} generated images a row against {view.comparison.reference}, at {budgets} block passes per image "
        f"with {listing(view.samplers)}; distances in {view.comparison.features}, not FID."
    )


def _answer(view: View) -> Section:
    standings = {budget: _standing(view.best(budget)) for budget in view.budgets}
    floors = listing(list(dict.fromkeys(short(floor) for floor in sorted(row.distance_floor for row in view.rows))))
    best = "Each model counts with the sampler that was best on validation images. " if len(view.samplers) > 1 else ""
    notes = (
        f"{REAL.capitalize()}, {view.real_count}, have {floors}. {best}In brackets are {LEVEL} intervals, "
        "which say how much a figure varies with the sampled images, not with the training; every model was trained "
        "once."
    )
    lead = Paragraph(" ".join(verdict(list(standings.values()), quantity=DISTANCE)), lead=True)
    return Section("The answer", [lead, Paragraph(notes), _matrix(view, standings)])


def _matrix(view: View, standings: dict[int, Standing]) -> Table:
    """Models by budgets."""
    places = decimals(map(_distance, view.rows))
    several = len(view.samplers) > 1
    cells = {
        (row.model, budget): _distance_cell(row, standing, places, row.sampler if several else "")
        for budget, standing in standings.items()
        for row in view.best(budget)
    }
    rows = [
        [name, _count(view.parameters[name]), *(cells.get((name, budget), MISSING) for budget in view.budgets)]
        for name in view.names
    ]
    columns = ["model", "parameters", *(f"{budget:,} passes" for budget in view.budgets)]
    return Table(f"{DISTANCE} and its {LEVEL} interval, lower is better.{_marks(view)}", columns, [Group(rows)])


def _marks(view: View) -> str:
    """What the marks of `_distance_cell` mean, where there are any."""
    meaning = " Bold is the lowest at a budget; ≈ marks those whose intervals overlap with its own."
    return meaning if len(view.names) > 1 else ""


def _distance_cell(row: Result, standing: Standing, places: int, word: str = "") -> Cell:
    interval = f"{fixed(row.distance_low, places)} to {fixed(row.distance_high, places)}"
    mark = ""
    if standing.others:
        rivals = {rival.name for rival in standing.rivals}
        mark = "best" if row.model == standing.best.name else "even" if row.model in rivals else ""
    return Cell(fixed(row.distance, places), f"{interval}, {word}" if word else interval, mark)


def _quality(view: View, album: Album) -> Section:
    blocks: list[Block] = [_distance_figure(view, sampler, album) for sampler in view.samplers]
    blocks.append(_kernel_figure(view, album))
    if view.comparison.sweep:
        blocks.append(_sweep_figure(view, album))
    return Section("Quality under a budget", blocks)


def _distance_figure(view: View, sampler: str, album: Album) -> Figure:
    """Distance over the three currencies: block passes, exact MACs, seconds."""
    rows = view.of_sampler(sampler)
    macs, seconds = unit((row.macs for row in rows), "MACs"), unit((row.seconds for row in rows), "s")
    panels = [
        _distances(view, rows, "block passes per image", lambda row: row.passes, ticks=view.budgets),
        _distances(view, rows, f"{macs.name} per image", lambda row: row.macs / macs.factor),
        _distances(view, rows, f"{seconds.name} per image", lambda row: row.seconds / seconds.factor),
    ]
    several = len(view.samplers) > 1
    what = f"{DISTANCE} with {sampler}" if several else DISTANCE
    lowest, highest = (short(end(map(_distance, rows))) for end in (min, max))
    return album.figure(
        f"distance-{sampler}" if several else "distance",
        view.curves(panels if view.timed else panels[:2], f"{DISTANCE} (lower is better)"),
        alt=f"{what} over what an image costs, from {lowest} to {highest}; the numbers are in the tables.",
        caption=f"{what} over what an image costs: block passes, multiply-accumulates"
        + (", seconds on this machine" if view.timed else "")
        + f". Bars are {LEVEL} intervals. The dotted line, or the number at the foot, is what {REAL} have, "
        f"{view.real_count}. "
        "Models that spent the same passes are drawn slightly apart. In brackets: parameters.",
    )


def _distances(
    view: View,
    rows: Sequence[Result],
    x_label: str,
    x: Callable[[Result], float],
    *,
    ticks: Sequence[float] = (),
    title: str = "",
) -> Panel:
    curves = []
    for name in view.names:
        if mine := sorted((row for row in rows if row.model == name), key=x):
            lows, highs = [row.distance_low for row in mine], [row.distance_high for row in mine]
            curves.append(Curve(name, list(map(x, mine)), list(map(_distance, mine)), lows, highs))
    return Panel(x_label, curves, ticks, title, sorted({row.distance_floor for row in rows}))


def _kernel_figure(view: View, album: Album) -> Figure:
    panels = []
    for sampler in view.samplers:
        rows, curves = view.of_sampler(sampler), []
        for name in view.names:
            if mine := [row for row in rows if row.model == name]:
                lows, highs = [1e3 * row.kid_low for row in mine], [1e3 * row.kid_high for row in mine]
                curves.append(Curve(name, [row.passes for row in mine], [1e3 * row.kid for row in mine], lows, highs))
        floors = sorted({1e3 * row.kid_floor for row in rows})
        title = sampler if len(view.samplers) > 1 else ""
        panels.append(Panel("block passes per image", curves, view.budgets, title, floors))
    return album.figure(
        "kernel-distance",
        view.curves(panels, "kernel distance × 1000"),
        alt="Kernel distance over block passes per image; the numbers are in the tables.",
        caption=f"Kernel distance (KID's formula in the same features). Unlike the {DISTANCE} it is unbiased: few "
        "images do not raise it, and it may fall below 0. Where the two order models differently, neither settles it.",
    )


def _sweep_figure(view: View, album: Album) -> Figure:
    panels = []
    for budget in sorted({row.budget for row in view.comparison.sweep}):
        rows = [row for row in view.comparison.sweep if row.budget == budget]
        ticks, title = sorted({row.iterations for row in rows}), f"{budget:,} block passes"
        x: Callable[[Result], float] = lambda row: row.iterations  # noqa: E731
        panels.append(_distances(view, rows, "iterations per step", x, ticks=ticks, title=title))
    return album.figure(
        "iterations",
        view.curves(panels, f"{DISTANCE} (lower is better)"),
        alt=f"{DISTANCE} over the number of iterations per step, at each budget.",
        caption="The same budget spent as few steps of many iterations or as many steps of few (smoothing, paper Sec. "
        "3.3 and Fig. 4), with the grid and the reuse that were chosen for the model.",
    )


class Column(NamedTuple):
    """A column of a table of rows: its heading and how to write a row's cell."""

    title: str
    write: Callable[[Result], str | Cell]


def _results(view: View) -> Section:
    first, *rest = view.samplers
    folded = [Fold(f"All results with {sampler}", [_result_table(view, sampler)]) for sampler in rest]
    return Section("All results", [_result_table(view, first), *folded])


def _result_table(view: View, sampler: str) -> Table:
    rows = view.of_sampler(sampler)
    plan, common = _plan_column(rows)
    columns = [Column("model", lambda row: row.model), *_measures(rows), *_costs(view, rows), plan]
    groups = [
        Group([[column.write(row) for column in columns] for row in mine], f"{budget:,} block passes")
        for budget, mine in groupby(rows, key=lambda row: row.budget)
    ]
    return Table(
        f"Images sampled with {sampler}; small print gives {LEVEL} intervals, and the floors are what {REAL} have."
        f"{_marks(view)} The plan was chosen on validation images. All rows: {common}.",
        [column.title for column in columns],
        groups,
        words=[plan.title],
    )


def _measures(rows: Sequence[Result]) -> list[Column]:
    standings = {budget: _standing(list(mine)) for budget, mine in groupby(rows, key=lambda row: row.budget)}
    places, fine = decimals(map(_distance, rows)), min(decimals(1e3 * row.kid for row in rows), 2)

    def kernel(row: Result) -> Cell:
        interval = f"{fixed(1e3 * row.kid_low, fine)} to {fixed(1e3 * row.kid_high, fine)}"
        return Cell(fixed(1e3 * row.kid, fine), interval)

    return [
        Column("distance", lambda row: _distance_cell(row, standings[row.budget], places)),
        Column("its floor", lambda row: fixed(row.distance_floor, places)),
        Column("kernel distance × 1000", kernel),
        Column("its floor", lambda row: fixed(1e3 * row.kid_floor, fine)),
        Column("precision", lambda row: fixed(row.precision, 2)),
        Column("recall", lambda row: fixed(row.recall, 2)),
        Column("novelty", lambda row: fixed(row.novelty, 2)),
    ]


def _costs(view: View, rows: Sequence[Result]) -> list[Column]:
    macs, seconds = unit((row.macs for row in rows), "MACs"), unit((row.seconds for row in rows), "s")
    macs_places = decimals(row.macs / macs.factor for row in rows)
    seconds_places = decimals(row.seconds / seconds.factor for row in rows)
    passes_places = 0 if all(float(row.passes).is_integer() for row in rows) else 1
    columns = [
        Column("passes spent", lambda row: fixed(row.passes, passes_places)),
        Column(macs.name, lambda row: fixed(row.macs / macs.factor, macs_places)),
        Column(seconds.name, lambda row: fixed(row.seconds / seconds.factor, seconds_places)),
    ]
    return columns if view.timed else columns[:2]


def _plan_column(rows: Sequence[Result]) -> tuple[Column, str]:
    """What is particular to each row's plan, and in words what all rows share."""
    words: list[Callable[[Result], str]] = [
        lambda row: row.grid,
        lambda row: row.allocation,
        lambda row: "reuse" if row.reuse else "no reuse",
        lambda row: f"guidance {row.guidance:g}",
        lambda row: f"{row.images:,} images",
        lambda row: f"noise seed {row.seed}",
        lambda row: f"{row.candidates:,} tried" if row.candidates > 1 else "no choice",
    ]
    varying = [word for word in words if len({word(row) for row in rows}) > 1]
    common = [word(rows[0]) for word in words if word not in varying]

    def write(row: Result) -> Cell:
        return Cell(f"{row.iterations:,} × {row.steps:,}", ", ".join(word(row) for word in varying))

    return Column("iterations × steps, plan", write), listing(common) or "nothing in common"


def _reading(view: View) -> Section:
    comparison = view.comparison
    blocks: list[Block] = [Bullets(_explanations(view))]
    if comparison.command:
        blocks += [Paragraph("The command that made this page:"), Code(comparison.command)]
    if comparison.versions:
        rows = [[name, version] for name, version in comparison.versions.items()]
        blocks.append(Table("Made with", ["what", "version"], [Group(rows)], words=["version"]))
    return Section("How to read and repeat this", blocks)


def _explanations(view: View) -> list[tuple[str, str]]:
    samplers = (
        "Samplers",
        "have tables of their own. Where the answer takes each model's best, that was chosen on the validation images, "
        "as plans are.",
    )
    return [
        (
            "Distances",
            "are Fréchet distances between Gaussians fitted to the features of the generated images and of "
            f"{view.comparison.reference}. The features are {view.comparison.features}. It is not FID, which takes "
            "Inception's features and 50,000 images: compare the figures with one another and with the floor, not with "
            "papers.",
        ),
        (
            "The floor",
            f"is what {REAL} have, {view.real_count}: about as low as a model can come. The distance is biased upwards "
            "when there are few images, and the floor with it.",
        ),
        (
            "Intervals",
            f"are {LEVEL} bootstrap intervals over the generated images. They do not cover the training: each model "
            "was trained once, with one seed, and another seed may move a model by more than its interval.",
        ),
        (
            "Plans",
            "(timestep grid, iterations, allocation, reuse) were chosen for each model and budget on validation "
            "images, with other noise than the reported images have; how many were tried stands in the tables.",
        ),
        *([samplers] if len(view.samplers) > 1 else []),
        (
            "The same noise and classes",
            "went into every row: the first image of one model began as the first image of any other.",
        ),
        (
            "A block pass",
            "is one transformer block applied once to one image. Models differ in what a pass costs, which is why "
            "multiply-accumulates (MACs) stand beside them; these count everything, guidance too."
            + (" Seconds hold for the machine below." if view.timed else ""),
        ),
        (
            "Precision and recall",
            "are the shares of generated images within the real ones' manifold and of real ones within the generated "
            "ones' (Kynkäänniemi et al. 2019).",
        ),
        (
            "Novelty",
            "is the median distance of generated images to their nearest training image over that of the test images: "
            "1 is as far as unseen images are, near 0 is memorising.",
        ),
    ]


def _distance(row: Result) -> float:
    return row.distance


def _choosing_distance(row: Result) -> float:
    assert row.choosing_distance is not None
    return row.choosing_distance


def _standing(rows: Sequence[Result]) -> Standing:
    """The order of rows at one budget."""
    estimates = [Estimate(row.model, row.distance, row.distance_low, row.distance_high) for row in rows]
    return Standing.of(rows[0].budget, estimates)


def _count(value: float) -> str:
    """1234567 as "1.23 M"."""
    found = unit([value], "")
    return f"{short(value / found.factor)} {found.name}".strip()
