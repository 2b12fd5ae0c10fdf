"""A study: one table or figure of the paper, as cells to measure and a page to show them on."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fpdm.compare.results import Result
from fpdm.drawing.numbers import MISSING
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.models import Model, Training
from fpdm.reproduce.scale import Scale
from fpdm.sampling.plan import Plan

if TYPE_CHECKING:
    from fpdm.drawing.plots import Curve, Panel, Plot
    from fpdm.drawing.sheets import Sheet

AXES = {"block passes per image": "budget", "MACs per image": "macs", "seconds per image": "seconds"}
Verdict = Literal["holds", "holds in part", "does not hold here", "not measured"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what came of it here.

    Attributes:
        text: The claim.
        paper: The paper's value.
        ours: Ours.
        verdict: In a word.
        why: An explanation, where one is needed.
    """

    text: str
    paper: str
    ours: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: Text above it.
        columns: Headings.
        rows: As many texts in each as there are headings.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join([f"{self.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])


@dataclass(frozen=True)
class Page:
    """The tables, figures and claims of a study.

    Attributes:
        tables: Its tables.
        claims: The claims that it answers.
        plots: Its figures by file name, without suffix.
        notes: Sentences below the tables.
    """

    tables: Sequence[Table]
    claims: Sequence[Claim]
    plots: Mapping[str, Plot] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Measured:
    """A cell's result.

    Attributes:
        key: Hash of everything that decides the cell.
        model: Name of the model.
        seed: Seed of its training.
        chosen: Whether the plan was chosen on validation images.
        solver: The solver of the fixed point.
        result: The result on the test images.
    """

    key: str
    model: str
    seed: int
    chosen: bool
    solver: str
    result: Result


@dataclass(frozen=True)
class Measurements:
    """All results of a study, as in its JSON file.

    Attributes:
        cells: The results.
        findings: What `Study.examine` found, as JSON values.
        floors: Fréchet distance of real images that the autoencoder has encoded and decoded, by number of images.
    """

    cells: Sequence[Measured]
    findings: Mapping[str, Any]
    floors: Mapping[int, float] = field(default_factory=dict)

    def where(self, model: Model | str = "", *, solver: str = "", **values: object) -> list[Result]:
        """Return the results of a model, or of all, whose fields have these values."""
        name = model if isinstance(model, str) else model.name
        return [
            one.result
            for one in self.cells
            if one.model == (name or one.model)
            and one.solver == (solver or one.solver)
            and all(getattr(one.result, key) == value for key, value in values.items())
        ]

    def distance(self, model: Model | str = "", *, solver: str = "", **values: object) -> Distances | None:
        """Return the distances of a model over its seeds; None if there are none."""
        found = self.where(model, solver=solver, **values)
        return Distances(tuple(found)) if found else None


@dataclass(frozen=True)
class Distances:
    """The distances of one model, sampled in one way, over the seeds of its training."""

    results: tuple[Result, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return mean(one.distance for one in self.results)

    @property
    def low(self) -> float:
        """Lower end: of the bootstrap interval over images with one seed, else of the intervals of all seeds."""
        return min(one.distance_low for one in self.results)

    @property
    def high(self) -> float:
        """Upper end."""
        return max(one.distance_high for one in self.results)

    def to_text(self) -> str:
        """Return the mean and the interval."""
        return f"{self.mean:.3g} ({self.low:.3g} to {self.high:.3g})"


class Study(ABC):
    """One table or figure of the paper."""

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def cells(self, scale: Scale) -> list[Cell]:
        """Return what is measured."""

    @abstractmethod
    def page(self, scale: Scale, found: Measurements) -> Page:
        """Return what is shown, from measurements that may be incomplete."""

    def examined(self, scale: Scale) -> list[Training]:
        """Return the trainings that `examine` and `sheets` need."""
        return []

    def examine(self, bench: Bench) -> dict[str, Any]:
        """Return what else is measured of the trained models, as JSON values."""
        return {}

    def sheets(self, bench: Bench) -> dict[str, Sheet]:
        """Return pictures of samples by file name, without suffix."""
        return {}


def key_of(cell: Cell, scale: Scale) -> str:
    """Return a hash of everything that decides a cell, wherever and whenever it is measured."""
    same = ("width", "heads", "batch_size", "data", "fpdm_rate", "dit_rate")
    values = {
        "scale": {name: getattr(scale, name) for name in same},
        "macs": cell.training.model.macs(scale),
        "cell": {**asdict(cell), "plan": cell.plan.values()},
        "choosing_images": scale.choosing_images if cell.chosen else 0,
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def panels(
    found: Measurements, models: Sequence[Model], budgets: Sequence[int], *, sampler: str = "ddim", title: str = ""
) -> list[Panel]:
    """Draw distances over block passes, multiply-accumulates and seconds per image; no panel if nothing is measured."""
    from fpdm.drawing.plots import Panel

    lines = {m.name: [found.distance(m, budget=budget, sampler=sampler) for budget in budgets] for m in models}
    first = next((one.results[0] for line in lines.values() for one in line if one), None)
    if first is None:
        return []
    floors = [first.distance_floor, *(floor for images, floor in found.floors.items() if images == first.images)]
    drawn = []
    for label, cost in AXES.items():
        curves = []
        for name, line in lines.items():
            costs = [mean(getattr(result, cost) for result in one.results) if one else 0.0 for one in line]
            if (curve := curve_of(name, costs, line)) is not None:
                curves.append(curve)
        shared = cost == "budget"
        drawn.append(Panel(label, curves, budgets if shared else (), title if shared else "", floors))
    return drawn


def floor_label(found: Measurements) -> str:
    """Name the dotted lines of `panels`."""
    return "real images, and encoded and decoded ones" if found.floors else "real images"


def chosen_cells(models: Iterable[Model], scale: Scale, budgets: Sequence[int]) -> list[Cell]:
    """Return cells of the first training seed with the best plan for DDIM at each budget."""
    return [
        Cell(Training(model, scale.seeds[0]), Plan(budget), scale.fewer_images, chosen=True)
        for model in models
        for budget in budgets
    ]


def verdict(*, holds: bool, in_part: bool = False) -> Verdict:
    """Put an answer into a word."""
    return "holds" if holds else "holds in part" if in_part else "does not hold here"


def ratio(part: float, whole: float) -> str:
    """Return a ratio in words."""
    return f"{part / whole:.2f} times"


def apart(better: Distances, worse: Distances) -> bool:
    """Whether the intervals of two distances do not meet, the first being the lower one."""
    return better.high < worse.low


def curve_of(name: str, x: Sequence[float], distances: Sequence[Distances | None]) -> Curve | None:
    """Draw distances with their intervals over `x`, leaving out those that are missing; None if all are."""
    from fpdm.drawing.plots import Curve

    known = [(at, one) for at, one in zip(x, distances, strict=True) if one is not None]
    if not known:
        return None
    return Curve(
        name,
        [at for at, _ in known],
        [one.mean for _, one in known],
        [one.low for _, one in known],
        [one.high for _, one in known],
    )


def texts(distances: Sequence[Distances | None]) -> list[str]:
    """Put distances into the cells of a table."""
    return [one.to_text() if one else MISSING for one in distances]


def lowest(distances: Mapping[str, Distances]) -> str:
    """Return the name of the lowest distance."""
    return min(distances, key=lambda name: distances[name].mean)
