"""Write docs/choosing.md and its figure from the recorded comparisons: which model to take.

python -m benchmarks.choosing results --figures docs/images > docs/choosing.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from fpdm.drawing.plots import Curve, Curves, Panel, render
from fpdm.files import write_atomically

TEMPLATE = Path(__file__).with_suffix(".md")
BUDGETS = (28, 56, 140, 280, 560)
SAMPLERS = {"ddim": "DDIM", "ddpm": "DDPM", "second-order": "second-order"}
NAMES = {
    "dit-28": "DiT, 28 blocks",
    "dit-14": "DiT, 14 blocks",
    "dit-7": "DiT, 7 blocks",
    "dit-4": "DiT, 4 blocks",
    "dit-3": "DiT, 3 blocks",
    "fpdm-3": "FPDM as published",
    "fpdm-everywhere-3": "FPDM, timestep everywhere",
    "fpdm-elastic-start": "FPDM, elastic",
}
DITS = tuple(name for name in NAMES.values() if name.startswith("DiT"))
_RUNS_AT_560 = {
    "dit-fashion": "dit-28",
    "dit-4-fashion": "dit-4",
    "dit-3-fashion": "dit-3",
    "fpdm-fashion": "fpdm-3",
    "fpdm-everywhere-fashion": "fpdm-everywhere-3",
    "fpdm-elastic-fashion": "fpdm-elastic-start",
}
"""The record of 560 passes names models by their recipes."""


class Measured(NamedTuple):
    """The best plan of a model at a budget.

    Attributes:
        model: Name of the model.
        sampler: Name of the sampler.
        budget: Block passes per image that were given.
        passes: Block passes per image that were spent.
        macs: Multiply-accumulates per image.
        distance: Fréchet distance.
        low: Lower end of its 95 % interval.
        high: Upper end.
        precision: Precision.
    """

    model: str
    sampler: str
    budget: int
    passes: float
    macs: float
    distance: float
    low: float
    high: float
    precision: float


def fashion(results: Path) -> list[Measured]:
    """Read what was measured on Fashion-MNIST in pixels, with three samplers."""
    found = []
    for file in ("compare.json", "560.json"):
        for row in json.loads((results / "fashion-mnist" / "samplers" / file).read_text(encoding="utf-8"))["rows"]:
            name = NAMES.get(_RUNS_AT_560.get(str(row["model"]), str(row["model"])))
            if name:
                found.append(
                    Measured(
                        name,
                        *(row[field] for field in ("sampler", "budget", "passes", "macs", "distance")),
                        *(row[field] for field in ("distance_low", "distance_high", "precision")),
                    )
                )
    return found


def envelope(rows: Iterable[Measured], cost: str, most: float) -> Measured:
    """Return the best plain DiT whose `cost` ("passes" or "macs") is at most `most`."""
    return min((r for r in rows if r.model in DITS and getattr(r, cost) <= most), key=lambda r: r.distance)


def family(rows: Iterable[Measured], budget: int) -> Measured:
    """Return the best FPDM at a budget."""
    return min((r for r in rows if r.model not in DITS and r.budget == budget), key=lambda r: r.distance)


@dataclass(frozen=True)
class Boards:
    """What was measured of one model on boards.

    Attributes:
        name: Name of the model.
        parameters: Its parameters.
        steps: Training steps.
        rows: The rows of `boards.py judge`.
        solved: The rows of `boards.py solve`; empty if that was not run.
    """

    name: str
    parameters: int
    steps: int
    rows: Sequence[Mapping[str, Any]]
    solved: Sequence[Mapping[str, Any]]

    def at(self, budget: int, *, solved: bool = False) -> Mapping[str, Any] | None:
        """Return the row with the most valid boards at a budget, over samplers."""
        rows = [row for row in (self.solved if solved else self.rows) if row["budget"] == budget]
        return max(rows, key=lambda row: row["valid"]) if rows else None


def boards(results: Path) -> list[Boards]:
    """Read the records of boards, DiTs first and then by parameters."""
    found = []
    for file in (results / "boards").glob("*.json"):
        if file.stem.endswith("-solved"):
            continue
        record = json.loads(file.read_text(encoding="utf-8"))
        other = file.with_name(f"{file.stem}-solved.json")
        solved = json.loads(other.read_text(encoding="utf-8"))["rows"] if other.exists() else ()
        found.append(Boards(record["name"], record["parameters"], record["training"]["steps"], record["rows"], solved))
    return sorted(found, key=lambda one: (not one.name.startswith("DiT"), one.parameters))


def figures(results: Path) -> dict[str, Curves]:
    """Return the figures by name."""
    drawn = {"choosing": distances(fashion(results))}
    return {**drawn, "boards": valid_boards(found)} if (found := boards(results)) else drawn


def distances(rows: Sequence[Measured]) -> Curves:
    """Draw distance over passes, a panel for each sampler."""
    panels = []
    for sampler, title in SAMPLERS.items():
        curves = []
        for name in NAMES.values():
            ours = sorted((r for r in rows if (r.model, r.sampler) == (name, sampler)), key=lambda r: r.budget)
            if ours:
                x, y = [r.budget for r in ours], [r.distance for r in ours]
                curves.append(Curve(name, x, y, [r.low for r in ours], [r.high for r in ours]))
        panels.append(Panel("block passes per image", curves, BUDGETS, title))
    names = [*NAMES.values()]
    return Curves(panels, names, names, "Fréchet distance", logarithmic=True, greys=DITS)


def valid_boards(found: Sequence[Boards]) -> Curves:
    """Draw the share of valid boards over passes, a panel for each sampler."""
    names = [one.name for one in found]
    panels = []
    for sampler in ("ddim", "ddpm"):
        curves = []
        for one in found:
            rows = sorted((row for row in one.rows if row["sampler"] == sampler), key=lambda row: row["budget"])
            low, high = zip(*(row["valid_interval"] for row in rows), strict=True)
            curves.append(Curve(one.name, [row["budget"] for row in rows], [row["valid"] for row in rows], low, high))
        ticks = sorted({row["budget"] for one in found for row in one.rows})
        panels.append(Panel("block passes per board", curves, ticks, SAMPLERS[sampler]))
    greys = [name for name in names if name.startswith("DiT")]
    return Curves(panels, names, names, "share of valid boards", greys=greys)


def page(results: Path) -> str:
    """Return the page as Markdown."""
    rows = fashion(results)
    by_sampler = {sampler: [row for row in rows if row.sampler == sampler] for sampler in SAMPLERS}
    low = [family(by_sampler["second-order"], budget) for budget in BUDGETS[:2]]
    dits = [envelope(by_sampler["second-order"], "passes", budget) for budget in BUDGETS[:2]]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        ratios=_ratios(by_sampler),
        macs=_at_equal_macs(by_sampler),
        precision=" and ".join(f"{row.precision:.2f}" for row in low),
        dit_precision=" and ".join(f"{row.precision:.2f}" for row in dits),
        boards=_boards(boards(results)),
    )


def _ratios(by_sampler: Mapping[str, Sequence[Measured]]) -> str:
    lines = _head("sampler", *(f"{budget} passes" for budget in BUDGETS))
    for sampler, rows in by_sampler.items():
        cells = []
        for budget in BUDGETS:
            best, dit = family(rows, budget), envelope(rows, "passes", budget)
            name = best.model.removeprefix("FPDM, ")
            cells.append(f"**{best.distance / dit.distance:.2f}** {name}, {best.distance:.2f}; {_of(dit)}")
        lines.append(_line(SAMPLERS[sampler], *cells))
    return "\n".join(lines)


def _at_equal_macs(by_sampler: Mapping[str, Sequence[Measured]]) -> str:
    ratios = []
    for rows in by_sampler.values():
        for budget in BUDGETS:
            best = family(rows, budget)
            ours = (envelope(rows, "passes", budget).distance, envelope(rows, "macs", best.macs).distance)
            ratios.append(tuple(f"{best.distance / dit:.2f}" for dit in ours))
    changed = sum(passes != macs for passes, macs in ratios)
    return f"{changed} of the {len(ratios)} ratios change" if changed else "the ratios are the same to two digits"


def _of(dit: Measured) -> str:
    return f"{dit.model.removeprefix('DiT, ')} {dit.distance:.2f}"


def _boards(found: Sequence[Boards]) -> str:
    budgets = sorted({row["budget"] for one in found for row in one.rows})
    lines = _head("model", "parameters", "training steps", *(f"{budget} passes" for budget in budgets))
    lines += [
        _line(one.name, f"{one.parameters:,}", f"{one.steps:,}", *(_valid(one.at(b)) for b in budgets)) for one in found
    ]
    solved = [one for one in found if one.solved]
    if solved:
        budgets, clues = sorted({row["budget"] for one in solved for row in one.solved}), solved[0].solved[0]["clues"]
        lines += ["", f"With {clues} of the 36 cells given and held while sampling, valid boards:", ""]
        lines += _head("model", *(f"{budget} passes" for budget in budgets))
        lines += [_line(one.name, *(_valid(one.at(b, solved=True)) for b in budgets)) for one in solved]
    return "\n".join(lines)


def _valid(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    low, high = row["valid_interval"]
    iterations = f" x {row['iterations']}" if row["iterations"] else ""
    way = f"{SAMPLERS[row['sampler']]}{iterations}"
    return f"**{100 * row['valid']:.1f} %** ({100 * low:.1f} to {100 * high:.1f}); {way}"


def _head(*cells: str) -> list[str]:
    return [_line(*cells), "|" + "---|" * len(cells)]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the page, and draw its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--figures", type=Path, required=True, help="folder for choosing.png and boards.png")
    options = parser.parse_args()
    for name, plot in figures(options.results).items():
        write_atomically(options.figures / f"{name}.png", render(plot).light.data)
    print(page(options.results), end="")


if __name__ == "__main__":
    main()
