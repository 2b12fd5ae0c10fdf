"""The sections of a report about the results: the answer, quality under a budget, all results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from fpdm.compare.answer import answer, cautions, stage_in_words
from fpdm.compare.report_view import DISTANCE, LEVEL, REAL, View, count, distance_cell, ranking
from fpdm.compare.results import Result
from fpdm.drawing.figures import Drawing, FigureWriter
from fpdm.drawing.numbers import MISSING, decimals, fixed, short, unit
from fpdm.drawing.page import Block, Bullets, Cell, Fold, Group, Paragraph, Section, Table
from fpdm.drawing.plots import Curve, Panel
from fpdm.drawing.ranking import Ranking
from fpdm.drawing.text import listing


def answer_section(view: View, figures: FigureWriter) -> Section:
    """Give the answer in one sentence, one strip of samples and one plot, and then the numbers."""
    rankings = {budget: ranking(view.best(budget)) for budget in view.budgets}
    floors = listing(list(dict.fromkeys(short(floor) for floor in sorted(row.distance_floor for row in view.rows))))
    best = "Each model is shown with the sampler that was best on validation images. " if len(view.samplers) > 1 else ""
    notes = (
        f"{REAL.capitalize()}, {view.real_count}, have {floors}. {best}The intervals ({LEVEL}) say how much a value "
        "varies with the sampled images, not with the training: every model was trained once."
    )
    warnings = [("Careful:", f"{text}.") for text in cautions(view.comparison)]
    blocks: list[Block] = [
        Paragraph(answer(view.comparison), lead=True),
        *([Paragraph(text)] if (text := stage_in_words(view.comparison)) else []),
        *([figures.strip(view.strip)] if view.strip else []),
        *figures.draw(view, (answer_figure,)),
        *([Bullets(warnings)] if warnings else []),
        _answer_table(view, rankings),
        Paragraph(notes),
        *_stages(view),
    ]
    return Section("The answer", blocks)


def answer_figure(view: View) -> list[Drawing]:
    """Draw the distance over block passes, with the sampler that was best for each model."""
    rows = _best(view)
    panel = _distances(view, rows, "block passes per image", lambda row: row.passes, ticks=view.budgets)
    lowest, highest = (short(end(map(_distance, rows))) for end in (min, max))
    grey = "FPDMs are in colour, all others in grey. " if view.greys else ""
    return [
        Drawing(
            "answer",
            view.curves([panel], f"{DISTANCE} (lower is better)"),
            alt=f"{DISTANCE} over block passes per image, from {lowest} to {highest}; the table has the numbers.",
            caption=f"{DISTANCE} on a logarithmic axis. {grey}The dotted line, or the number at the bottom, is that of "
            f"{REAL}. The legend gives the numbers of parameters.",
        )
    ]


def _stages(view: View) -> list[Block]:
    """List the answers so far, if the comparison was made in stages."""
    rows = [
        [one.name, f"{fixed(one.seconds / 60, 1)}", _range(*one.images), f"{one.plans:,}", one.answer]
        for one in view.comparison.stages
    ]
    columns = ["stage", "after min", "images per result", "plans tried", "answer"]
    table = Table("Answers so far, the newest last.", columns, [Group(rows)], words=["answer"])
    return [Fold("Answers so far", [table])] if rows else []


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _answer_table(view: View, rankings: dict[int, Ranking]) -> Table:
    places = decimals(map(_distance, view.rows))
    several = len(view.samplers) > 1
    cells = {
        (row.model, budget): distance_cell(row, order, places, row.sampler if several else "")
        for budget, order in rankings.items()
        for row in view.best(budget)
    }
    rows = [
        [name, count(view.parameters[name]), *(cells.get((name, budget), MISSING) for budget in view.budgets)]
        for name in view.names
    ]
    columns = ["model", "parameters", *(f"{budget:,} passes" for budget in view.budgets)]
    return Table(f"{DISTANCE} and its {LEVEL} interval; lower is better.{_marks(view)}", columns, [Group(rows)])


def _marks(view: View) -> str:
    meaning = " Bold marks the lowest at a budget, ≈ those whose intervals overlap with it."
    return meaning if len(view.names) > 1 else ""


def quality_section(view: View, figures: FigureWriter) -> Section:
    """Draw the measures over what an image costs."""
    return Section("Quality under a budget", figures.draw(view, QUALITY_FIGURES))


def distance_figure(view: View) -> list[Drawing]:
    """Draw the distance over exact MACs and seconds, with the sampler that was best for each model."""
    rows = _best(view)
    macs, seconds = unit((row.macs for row in rows), "MACs"), unit((row.seconds for row in rows), "s")
    panels = [
        _distances(view, rows, f"{macs.name} per image", lambda row: row.macs / macs.factor),
        _distances(view, rows, f"{seconds.name} per image", lambda row: row.seconds / seconds.factor),
    ]
    lowest, highest = (short(end(map(_distance, rows))) for end in (min, max))
    return [
        Drawing(
            "distance",
            view.curves(panels if view.timed else panels[:1], f"{DISTANCE} (lower is better)"),
            alt=f"{DISTANCE} over the cost of an image, from {lowest} to {highest}; the tables have the numbers.",
            caption=f"{DISTANCE} over the cost of an image in multiply-accumulates"
            + (f" and in seconds on this machine ({view.seconds_of})" if view.timed else "")
            + f"{_with_best(view)}. The dotted line, or the number at the bottom, is the value of {REAL}, "
            f"{view.real_count}.",
        )
    ]


def _best(view: View) -> list[Result]:
    """Return the results of each model with the sampler that was best for it at each budget."""
    return [row for budget in view.budgets for row in view.best(budget)]


def _with_best(view: View) -> str:
    return ", with the sampler that was best on validation images" if len(view.samplers) > 1 else ""


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
            curves.append(Curve(name, list(map(x, mine)), list(map(_distance, mine))))
    return Panel(x_label, curves, ticks, title, sorted({row.distance_floor for row in rows}))


def kernel_figure(view: View) -> list[Drawing]:
    """Draw the kernel distance over block passes, with the sampler that was best for each model."""
    rows, curves = _best(view), []
    for name in view.names:
        if mine := [row for row in rows if row.model == name]:
            curves.append(Curve(name, [row.passes for row in mine], [1e3 * row.kid for row in mine]))
    panel = Panel("block passes per image", curves, view.budgets, "", sorted({1e3 * row.kid_floor for row in rows}))
    caption = (
        f"Kernel distance (the formula of KID, in the same features){_with_best(view)}. Unlike the {DISTANCE} it is "
        "unbiased: it does not grow when there are few images, and it can be below 0. If the two rank models "
        "differently, neither is conclusive."
    )
    return [
        Drawing(
            "kernel-distance",
            view.curves([panel], "kernel distance × 1000"),
            alt="Kernel distance over block passes per image; the tables have the numbers.",
            caption=caption,
        )
    ]


def sweep_figure(view: View) -> list[Drawing]:
    """Draw the distance over the number of iterations, if there is a sweep."""
    panels = []
    for budget in sorted({row.budget for row in view.comparison.sweep}):
        rows = [row for row in view.comparison.sweep if row.budget == budget]
        ticks, title = sorted({row.iterations for row in rows}), f"{budget:,} block passes"
        x: Callable[[Result], float] = lambda row: row.iterations  # noqa: E731
        panels.append(_distances(view, rows, "iterations per step", x, ticks=ticks, title=title))
    if not panels:
        return []
    return [
        Drawing(
            "iterations",
            view.curves(panels, f"{DISTANCE} (lower is better)"),
            alt=f"{DISTANCE} over the number of iterations per step, at each budget.",
            caption="The same budget spent on few steps of many iterations or on many steps of few (smoothing, paper "
            "Sec. 3.3 and Fig. 4), with the grid and the reuse that were chosen for the model.",
        )
    ]


QUALITY_FIGURES: tuple[Callable[[View], list[Drawing]], ...] = (distance_figure, kernel_figure, sweep_figure)


class Column(NamedTuple):
    """A column of a table of results: its heading, and a function that writes the cell of a result."""

    title: str
    write: Callable[[Result], str | Cell]


def results_section(view: View, figures: FigureWriter) -> Section:
    """List every value of every result, a table per sampler."""
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
        f"Images sampled with {sampler}. Small print gives {LEVEL} intervals; the floors are the values of {REAL}."
        f"{_marks(view)} Plans were chosen on validation images. Common to all: {common}.",
        [column.title for column in columns],
        groups,
        words=[plan.title],
    )


def _measures(rows: Sequence[Result]) -> list[Column]:
    rankings = {budget: ranking(list(mine)) for budget, mine in groupby(rows, key=lambda row: row.budget)}
    places, fine = decimals(map(_distance, rows)), min(decimals(1e3 * row.kid for row in rows), 2)

    def kernel(row: Result) -> Cell:
        interval = f"{fixed(1e3 * row.kid_low, fine)} to {fixed(1e3 * row.kid_high, fine)}"
        return Cell(fixed(1e3 * row.kid, fine), interval)

    return [
        Column("distance", lambda row: distance_cell(row, rankings[row.budget], places)),
        Column("its floor", lambda row: fixed(row.distance_floor, places)),
        Column("kernel distance × 1000", kernel),
        Column("its floor", lambda row: fixed(1e3 * row.kid_floor, fine)),
        Column("precision", lambda row: fixed(row.precision, 2)),
        Column("recall", lambda row: fixed(row.recall, 2)),
        Column("novelty", lambda row: fixed(row.novelty, 2)),
        *(_other_measure(name, rows) for name in dict.fromkeys(name for row in rows for name in row.measures)),
    ]


def _other_measure(name: str, rows: Sequence[Result]) -> Column:
    values = {id(row): row.measures[name] for row in rows if name in row.measures}
    places = decimals(values.values())
    return Column(name, lambda row: fixed(values[id(row)], places) if id(row) in values else MISSING)


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
    """A column of what differs between the plans, and in words what they have in common."""
    words: list[Callable[[Result], str]] = [
        lambda row: row.grid,
        lambda row: row.allocation,
        lambda row: "reuse" if row.reuse else "no reuse",
        lambda row: f"guidance {row.guidance:g}",
        *([lambda row: row.self_guidance_in_words()] if any(row.self_guidance for row in rows) else []),
        lambda row: f"{row.images:,} images",
        lambda row: f"noise seed {row.seed}",
        lambda row: f"{row.candidates:,} tried" if row.candidates > 1 else "no choice",
    ]
    varying = [word for word in words if len({word(row) for row in rows}) > 1]
    common = [word(rows[0]) for word in words if word not in varying]

    def write(row: Result) -> Cell:
        return Cell(f"{row.steps:,} × {row.iterations:,}", ", ".join(word(row) for word in varying))

    return Column("steps × iterations, plan", write), listing(common) or "nothing"


def _distance(row: Result) -> float:
    return row.distance
