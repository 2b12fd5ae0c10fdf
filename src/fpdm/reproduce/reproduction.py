"""Reproduce the paper: train what is missing, measure it, and write each study's table and figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fpdm import __version__
from fpdm.compare.results import Result
from fpdm.configuration import Record
from fpdm.data.sources.folder import scan
from fpdm.drawing.images import Png
from fpdm.drawing.plots import save_svg_and_png
from fpdm.drawing.sheets import draw_sheet
from fpdm.errors import RunError, did_you_mean
from fpdm.files import read_json, write_atomically, write_json
from fpdm.hub import is_hub_id
from fpdm.reproduce.appendix_c import AppendixC
from fpdm.reproduce.baselines import Baselines
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.figure4 import Figure4
from fpdm.reproduce.figure6 import Figure6
from fpdm.reproduce.figure7 import Figure7
from fpdm.reproduce.jobs import Job, run_jobs
from fpdm.reproduce.limits import Limits
from fpdm.reproduce.models import Training
from fpdm.reproduce.pages import FLOORS, StudyRecord, diverged, read_floors, read_record, to_markdown
from fpdm.reproduce.pictures import Figure1, Figure3, Figure5, Samples
from fpdm.reproduce.report import FILE as REPORT
from fpdm.reproduce.report import report
from fpdm.reproduce.scale import REPRODUCTION, Scale
from fpdm.reproduce.self_guidance import SelfGuidance
from fpdm.reproduce.solvers import Solvers
from fpdm.reproduce.study import Measured, Measurements, Page, Study, key_of
from fpdm.reproduce.summary import read_answers, summary
from fpdm.reproduce.table1 import Table1
from fpdm.reproduce.table2 import Table2
from fpdm.reproduce.table3 import Table3
from fpdm.reproduce.table4 import Table4
from fpdm.reproduce.table5 import Table5

STUDIES: dict[str, Study] = {
    one.name: one
    for one in (
        Table1(),
        Figure4(),
        Figure5(),
        Baselines(),
        Table4(),
        Figure6(),
        Table5(),
        Table3(),
        Figure7(),
        Table2(),
        AppendixC(),
        Solvers(),
        Limits(),
        SelfGuidance(),
        Figure1(),
        Figure3(),
        Samples(),
    )
}
"""The studies by name, in the order in which they are made."""


@dataclass(frozen=True)
class Examination:
    """The part of a study that is no cell: what else it measures, and its pictures of samples.

    Attributes:
        study: The study.
        scale: The size of everything.
    """

    study: Study
    scale: Scale

    @property
    def trainings(self) -> list[Training]:
        """The trainings that have to be finished before."""
        return self.study.examined(self.scale)

    def macs(self, bench: Bench) -> float:
        """Count it as nothing beside the cells."""
        return 0.0

    def run(self, bench: Bench) -> tuple[dict[str, Any], dict[str, Png]]:
        """Return the findings, and the pictures by name."""
        sheets = self.study.sheets(bench)
        return self.study.examine(bench), {name: draw_sheet(sheet) for name, sheet in sheets.items()}


@dataclass(frozen=True)
class Floor:
    """The Fréchet distance of real images that the autoencoder of the latents has encoded and decoded.

    Attributes:
        images: Number of images.
    """

    images: int

    @property
    def trainings(self) -> tuple[()]:
        """It needs no training."""
        return ()

    def macs(self, bench: Bench) -> float:
        """Count it as nothing beside the cells."""
        return 0.0

    def run(self, bench: Bench) -> float:
        """Measure it."""
        return bench.real().floor(bench.autoencoder, self.images)


class _Book:
    """A study's record while it is filled, with its tables and figures on disk.

    Args:
        study: The study.
        out: Folder of the reproduction.
        scale: The size of everything.
        command: The command line, for the record.
        records: The records of all studies in the folder by name; a cell of one is known to each that has it.
    """

    def __init__(self, study: Study, out: Path, scale: Scale, command: str, records: Mapping[str, StudyRecord]) -> None:
        self.study, self.scale, self.command, self.floors = study, scale, command, read_floors(out)
        self.folder = out / study.name
        self._cells = {key_of(cell, scale): cell for cell in study.cells(scale)}
        before = records.get(study.name)
        self._known = {one.key: one for record in records.values() for one in record.cells if one.key in self._cells}
        self._findings: Mapping[str, Any] = before.findings if before else {}
        self._examined, self._sheets = (before.examined, before.sheets) if before else (False, ())
        self._failed: Mapping[str, str] = before.failed if before else {}

    def missing(self, bench: Bench) -> list[Job]:
        """Return the cells that are not measured yet and can be, and the examination if it was not made yet.

        A training that diverged would diverge again: that is its result.
        """
        known = {*self._known, *(k for k, cell in self._cells.items() if diverged(self._failed, cell.training.folder))}
        cells = [cell for key, cell in self._cells.items() if key not in known]
        jobs: list[Job] = [cell for cell in cells if bench.can_train(cell.training.model)]
        kinds = type(self.study)
        if not self._examined and (kinds.examine is not Study.examine or kinds.sheets is not Study.sheets):
            jobs.append(Examination(self.study, self.scale))
        return jobs

    def keep(self, job: Job, result: Any) -> None:
        """Take in the result of a job, if it is this study's, and write everything anew."""
        if isinstance(job, Cell) and (key := key_of(job, self.scale)) in self._cells:
            self._known[key] = _measured(job, key, result)
        elif isinstance(job, Examination) and job.study is self.study:
            self._findings, sheets = result
            self._examined, self._sheets = True, tuple(sheets)
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, png in sheets.items():
                write_atomically(self.folder / f"{name}.png", png.data)
        else:
            return
        self.write()

    def fail(self, failed: Mapping[str, str]) -> None:
        """Take in what trainings that failed said, those of other studies too, until they are tried again."""
        self._failed = {**self._failed, **failed}

    def write(self) -> Page:
        """Write the record, tables and figures."""
        missing = {cell.training.folder for key, cell in self._cells.items() if key not in self._known}
        self.folder.mkdir(parents=True, exist_ok=True)
        found = tuple(self._known[key] for key in self._cells if key in self._known)
        page = self.study.page(self.scale, Measurements(found, self._findings, self.floors))
        record = StudyRecord(
            study=self.study.name,
            scale=asdict(self.scale),
            cells=found,
            missing=len(self._cells) - len(found),
            findings=self._findings,
            versions=_versions(),
            command=self.command,
            examined=self._examined,
            sheets=self._sheets,
            failed={name: why for name, why in self._failed.items() if name in missing},
        )
        write_atomically(self.folder / f"{self.study.name}.json", record.to_json())
        write_atomically(self.folder / "README.md", to_markdown(self.study, record, page))
        for name, plot in page.plots.items():
            save_svg_and_png(plot, self.folder / name)
        return page


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
    pictures: Path | None = None,
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
        pictures: A folder of colour pictures, for Table 2; without one, its rows of them stay missing.
        workers: Trainings and measurements at once, one thread each; 0 for one per core.
        command: The command line, for the record.

    Raises:
        ValueError: There is no such study, what is read is missing, or the folder has other files or studies of another
            scale.
        Interrupted: A signal arrived; the same call continues.
        RunError: A training failed, and all that does not need it is done; or a measurement failed.
    """
    chosen = [STUDIES[name] for name in check_names(names)]
    _check_inputs(autoencoder, root, pictures)
    with REPRODUCTION.hold(out):
        _check_scale(out, scale)
        bench = Bench(out / "work", scale, autoencoder=autoencoder, root=root, pictures=pictures, workers=workers)
        records = {name: record for name, study in STUDIES.items() if (record := read_record(out, study))}
        books = [_Book(one, out, scale, command, records) for one in chosen]
        jobs = [job for book in books for job in book.missing(bench)]
        if jobs and scale.on_latents:
            jobs = [*(Floor(n) for n in (scale.fewer_images, scale.images) if n not in read_floors(out)), *jobs]

        def keep(job: Job, result: Any) -> None:
            if isinstance(job, Floor):
                floors = {**read_floors(out), job.images: result}
                write_json(out / FLOORS, {str(images): floor for images, floor in floors.items()})
                for book in books:
                    book.floors = floors
            else:
                for book in books:
                    book.keep(job, result)

        failed = run_jobs(bench, jobs, keep)
        for book in books:
            # Without "try ..." and where its output is, which is of use on this machine only.
            book.fail({name: failure.split("; ")[0] for name, failure in failed.items()})
        pages = [book.write() for book in books]
        answers = read_answers(out, scale, [*STUDIES.values()])
        write_atomically(out / "README.md", summary(scale, answers))
        write_atomically(out / REPORT, report(out, scale, answers))
        if failed:
            raise RunError("; ".join(f"training {name} failed: {failure}" for name, failure in failed.items()))
    verdicts = [claim.verdict for page in pages for claim in page.claims]
    return Reproduced(out, tuple(one.name for one in chosen), {v: verdicts.count(v) for v in dict.fromkeys(verdicts)})


def _check_inputs(autoencoder: str, root: Path | None, pictures: Path | None) -> None:
    """Check that what is read is there, before anything is written.

    Raises:
        ValueError: It is not.
    """
    if pictures is not None:
        scan(pictures)
    if autoencoder and not Path(autoencoder).exists() and not is_hub_id(autoencoder):
        raise ValueError(f"the autoencoder {autoencoder} does not exist; expected a folder or a name on the hub")
    if root is not None and not root.is_dir():
        raise ValueError(f"data-root is {root}; expected the folder that holds Fashion-MNIST")


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


def _measured(cell: Cell, key: str, result: Result) -> Measured:
    return Measured(key, cell.training.model.name, cell.training.seed, cell.chosen, cell.plan.solver, result)


def _check_scale(out: Path, scale: Scale) -> None:
    path = out / "scale.json"
    name = "name"
    if path.exists():
        before = read_json(path)
        if before.get(name) != scale.name:
            raise ValueError(f"{out} has studies of scale {before.get(name)}, not {scale.name}; choose another folder")
    write_json(path, asdict(scale))


def _versions() -> dict[str, str]:
    return {
        "fpdm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
