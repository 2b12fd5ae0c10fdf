"""Reproduce the paper: train what is missing, measure it, and write each study's table and figures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from fpdm import __version__
from fpdm.compare.results import Result
from fpdm.configuration import Record
from fpdm.drawing.plots import save_svg_and_png
from fpdm.drawing.text import fenced
from fpdm.errors import did_you_mean
from fpdm.files import read_dataclass, read_json, write_atomically
from fpdm.reproduce.appendix_c import AppendixC
from fpdm.reproduce.baselines import Baselines
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.figure4 import Figure4
from fpdm.reproduce.figure6 import Figure6
from fpdm.reproduce.figure7 import Figure7
from fpdm.reproduce.limits import Limits
from fpdm.reproduce.models import Training
from fpdm.reproduce.scale import REPRODUCTION, Scale
from fpdm.reproduce.solvers import Solvers
from fpdm.reproduce.study import Measured, Measurements, Page, Study, key_of
from fpdm.reproduce.table1 import Table1
from fpdm.reproduce.table3 import Table3
from fpdm.reproduce.table4 import Table4
from fpdm.reproduce.table5 import Table5

STUDIES: dict[str, Study] = {
    one.name: one
    for one in (
        Table1(),
        Figure4(),
        Baselines(),
        Table4(),
        Figure6(),
        Table5(),
        Table3(),
        Figure7(),
        AppendixC(),
        Solvers(),
        Limits(),
    )
}
"""The studies by name, in the order in which they are made."""


@dataclass(frozen=True)
class StudyRecord(Record):
    """The JSON file of a study: everything that its page is made from.

    Attributes:
        study: Name of the study.
        scale: The `Scale`.
        cells: The results so far.
        missing: Number of cells that are not measured yet.
        findings: What else was measured.
        versions: Versions of this package, Python and PyTorch, the machine and its threads.
        command: The command.
    """

    study: str
    scale: Mapping[str, Any]
    cells: tuple[Measured, ...]
    missing: int
    findings: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str

    @property
    def measurements(self) -> Measurements:
        """The results, for the study's page."""
        return Measurements(self.cells, self.findings)


@dataclass(frozen=True)
class Reproduced(Record):
    """Summary of a call of `reproduce`.

    Attributes:
        out: The folder.
        studies: Names of the studies.
        claims: Number of claims by verdict.
    """

    out: Path
    studies: tuple[str, ...]
    claims: Mapping[str, int]

    def to_text(self) -> str:
        """Say in one line what came out."""
        counts = ", ".join(f"{count} {name}" for name, count in self.claims.items())
        return f"{', '.join(self.studies)} in {self.out}: {counts}"


def reproduce(
    names: Sequence[str],
    out: Path,
    scale: Scale,
    *,
    autoencoder: str = "",
    root: Path | None = None,
    workers: int = 0,
    command: str = "",
) -> Reproduced:
    """Make studies, one after the other; what is there already is not made again.

    Cells are kept in `out/NAME/NAME.json` as they are measured, and are known again wherever that file is taken to, so
    that nothing is trained for cells that are there.

    Args:
        names: Names of studies; "all" for all.
        out: Folder for the results. Its folder `work` holds runs and latents, which can be made again.
        scale: The size of everything.
        autoencoder: Folder of the autoencoder of the latents; by default one is trained first.
        root: Folder with the files of the data set.
        workers: Trainings at once; 0 for one per core.
        command: The command line, for the record.

    Raises:
        ValueError: There is no such study, or the folder has other files or studies of another scale.
        Interrupted: A signal arrived; the same call continues.
        RunError: A training failed.
    """
    chosen = [STUDIES[name] for name in check_names(names)]
    with REPRODUCTION.hold(out):
        _check_scale(out, scale)
        bench = Bench(out / "work", scale, autoencoder=autoencoder, root=root, workers=workers)
        records = {one.name: read_record(out, one) for one in chosen}
        bench.train(_needed(chosen, records, scale))
        pages = [_make(one, records[one.name], bench, out, command) for one in chosen]
    verdicts = [claim.verdict for page in pages for claim in page.claims]
    return Reproduced(out, tuple(one.name for one in chosen), {v: verdicts.count(v) for v in dict.fromkeys(verdicts)})


def check_names(names: Sequence[str]) -> list[str]:
    """Return the names of studies, in their order.

    Raises:
        ValueError: There is no such study.
    """
    for name in names:
        if name != "all" and name not in STUDIES:
            raise ValueError(
                f"there is no study {name!r}; expected all, {', '.join(STUDIES)}{did_you_mean(name, STUDIES)}"
            )
    return [name for name in STUDIES if name in names or "all" in names]


def read_record(out: Path, study: Study) -> StudyRecord | None:
    """Read the record of a study; None if there is none.

    Raises:
        ValueError: It is damaged.
    """
    path = out / study.name / f"{study.name}.json"
    if not path.exists():
        return None
    try:
        return read_dataclass(path, StudyRecord)
    except ValueError as error:
        raise ValueError(f"{error}; delete it to measure it anew") from error


def write_pages(out: Path, study: Study, record: StudyRecord, scale: Scale) -> Page:
    """Write a study's record, tables and figures."""
    folder = out / study.name
    folder.mkdir(parents=True, exist_ok=True)
    page = study.page(scale, record.measurements)
    write_atomically(folder / f"{study.name}.json", record.to_json())
    write_atomically(folder / "README.md", to_markdown(study, record, page))
    for name, plot in page.plots.items():
        save_svg_and_png(plot, folder / name)
    return page


def to_markdown(study: Study, record: StudyRecord, page: Page) -> str:
    """Return a study's page in Markdown."""
    state = (
        f"Partial: {record.missing} of {record.missing + len(record.cells)} cells are missing."
        if record.missing
        else ""
    )
    quick = "**This is a trial of the code at the smallest size; its figures mean nothing.**"
    claims = [
        f"| {claim.text} | {claim.paper} | {claim.ours} | {claim.verdict}{f': {claim.why}' if claim.why else ''} |"
        for claim in page.claims
    ]
    parts = [
        f"# {study.title}",
        quick if record.scale["name"] == "quick" else "",
        state,
        "\n".join(["| claim | paper | here | |", "| --- | --- | --- | --- |", *claims]) if claims else "",
        *(table.to_markdown() for table in page.tables),
        *page.notes,
        *(f"![{name}]({name}.png)" for name in page.plots),
        f"Made with {', '.join(f'{key} {value}' for key, value in record.versions.items())}, by",
        fenced(record.command, "sh"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _needed(studies: Sequence[Study], records: Mapping[str, StudyRecord | None], scale: Scale) -> list[Training]:
    """Return the trainings whose cells or findings are missing, each once."""
    needed: dict[str, Training] = {}
    for study in studies:
        record = records[study.name]
        cells = study.cells(scale)
        known = {one.key for one in record.cells} if record else set()
        unfinished = record is None or (not record.findings and type(study).examine is not Study.examine)
        for cell in cells:
            if key_of(cell, scale) not in known or unfinished:
                needed.setdefault(cell.training.folder, cell.training)
    return [*needed.values()]


def _make(study: Study, before: StudyRecord | None, bench: Bench, out: Path, command: str) -> Page:
    scale, cells = bench.scale, study.cells(bench.scale)
    known = {one.key: one for one in before.cells} if before else {}
    findings: Mapping[str, Any] = before.findings if before else {}

    def record() -> StudyRecord:
        found = tuple(known[key] for cell in cells if (key := key_of(cell, scale)) in known)
        missing = len(cells) - len(found)
        return StudyRecord(study.name, asdict(scale), found, missing, findings, _versions(), command)

    with tqdm(cells, desc=study.name, unit=" cells", disable=None, dynamic_ncols=True) as bar:
        for cell in bar:
            key = key_of(cell, scale)
            if key not in known:
                known[key] = _measured(cell, key, bench.measure(cell))
                write_pages(out, study, record(), scale)
    if not findings:
        findings = study.examine(bench)
    return write_pages(out, study, record(), scale)


def _measured(cell: Cell, key: str, result: Result) -> Measured:
    return Measured(key, cell.training.model.name, cell.training.seed, cell.chosen, cell.plan.solver, result)


def _check_scale(out: Path, scale: Scale) -> None:
    path = out / "scale.json"
    name = "name"
    if path.exists():
        before = read_json(path)
        if before.get(name) != scale.name:
            raise ValueError(f"{out} has studies of scale {before.get(name)}, not {scale.name}; choose another folder")
    write_atomically(path, json.dumps(asdict(scale), indent=1))


def _versions() -> dict[str, str]:
    return {
        "fpdm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
