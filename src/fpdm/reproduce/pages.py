"""The records of studies, and their pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpdm.configuration import Record
from fpdm.drawing.text import fenced
from fpdm.files import read_dataclass, read_json
from fpdm.reproduce.study import Claim, Measured, Page, Study

FLOORS = "floors.json"
TRIAL = "This is a trial of the code at the smallest size; its figures mean nothing."


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
        examined: Whether `findings` and `sheets` are there.
        sheets: Names of the pictures of samples beside it, without suffix.
        failed: What the trainings that failed said, by the name of their folder. One that diverged is not tried again.
    """

    study: str
    scale: Mapping[str, Any]
    cells: tuple[Measured, ...]
    missing: int
    findings: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    examined: bool = False
    sheets: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


def record_path(out: Path, study: Study) -> Path:
    """Return the file of a study's record."""
    return out / study.name / f"{study.name}.json"


def read_record(out: Path, study: Study) -> StudyRecord | None:
    """Read the record of a study; None if there is none.

    Raises:
        ValueError: It is damaged.
    """
    path = record_path(out, study)
    if not path.exists():
        return None
    try:
        return read_dataclass(path, StudyRecord)
    except ValueError as error:
        raise ValueError(f"{error}; delete it to measure it anew") from error


def read_floors(out: Path) -> dict[int, float]:
    """Read the distances of encoded and decoded images by number of images; empty if they are not measured."""
    path = out / FLOORS
    return {int(images): floor for images, floor in read_json(path).items()} if path.exists() else {}


def to_markdown(study: Study, record: StudyRecord, page: Page) -> str:
    """Return a study's page in Markdown."""
    parts = [
        f"# {study.title}",
        f"**{TRIAL}**" if record.scale["name"] == "quick" else "",
        state(record),
        claims_table(page.claims),
        *(table.to_markdown() for table in page.tables),
        *page.notes,
        *(f"![{name}]({name}.png)" for name in (*page.plots, *record.sheets)),
        f"Made with {', '.join(f'{key} {value}' for key, value in record.versions.items())}, by",
        fenced(record.command, "sh"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def state(record: StudyRecord) -> str:
    """Say how much of a study is there; empty if all of it is."""
    if not record.missing:
        return ""
    said = [f"Partial: {record.missing} of {record.missing + len(record.cells)} cells are missing."]
    return " ".join([*said, *(f"The training {name} failed: {why}." for name, why in record.failed.items())])


def diverged(failed: Mapping[str, str], folder: str) -> bool:
    """Say whether a training is among those that failed, and failed by diverging, which it would do again."""
    return failed.get(folder, "").startswith("diverged: ")


def claims_table(claims: Sequence[Claim]) -> str:
    """Return claims as a table in Markdown; empty if there are none."""
    if not claims:
        return ""
    lines = [
        f"| {claim.text} | {claim.paper} | {claim.ours} | {claim.verdict}{f': {claim.why}' if claim.why else ''} |"
        for claim in claims
    ]
    return "\n".join(["| claim | paper | here | |", "| --- | --- | --- | --- |", *lines])
