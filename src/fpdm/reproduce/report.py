"""The whole reproduction as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fpdm.drawing.images import Png
from fpdm.drawing.page import Block, Code, Figure, Gallery, Group, Page, Paragraph, Section, Strip, Table
from fpdm.drawing.plots import render
from fpdm.reproduce.pages import TRIAL
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim
from fpdm.reproduce.summary import WORDS, Answer, counted, setting

FILE = "report.html"


def report(out: Path, scale: Scale, answers: Sequence[Answer]) -> str:
    """Return the page: every claim first, then the tables, figures and samples of each study.

    Args:
        out: Folder of the reproduction, which has the pictures of samples.
        scale: Its scale.
        answers: What came of the studies.
    """
    quick = [Paragraph(TRIAL, lead=True)]
    first: list[Block] = [
        *(quick if scale.name == "quick" else []),
        Paragraph(counted(answers), lead=True),
        _claims([(one.study.title.partition(":")[0], claim) for one in answers for claim in one.page.claims]),
        Paragraph(WORDS.replace("*", "").replace("\n", " ")),
    ]
    sections = [Section("Every claim", first), *(_section(out, one) for one in answers if one.record)]
    return Page("The paper, reproduced in miniature", setting(scale), sections).html()


def _claims(claims: Sequence[tuple[str, Claim]]) -> Table:
    rows = [[where, claim.text, claim.paper, claim.ours, claim.verdict] for where, claim in claims]
    columns = ["where", "claim", "paper", "here", "answer"]
    return Table("The claims of the paper, and what came of them", columns, [Group(rows)], words=columns)


def _section(out: Path, one: Answer) -> Section:
    assert one.record is not None
    title, _, about = one.study.title.partition(": ")
    blocks: list[Block] = [Paragraph(text) for text in (one.state, *one.page.notes) if text]
    for name, plot in one.page.plots.items():
        blocks.append(Figure(render(plot), f"{title}: {about}", f"{about[:1].upper()}{about[1:]} ({name})."))
    for table in one.page.tables:
        rows = [[*row] for row in table.rows]
        blocks.append(Table(table.title, table.columns, [Group(rows)]))
    for name in one.record.sheets:
        path = out / one.study.name / f"{name}.png"
        if path.exists():
            with Image.open(path) as image:
                picture = Png(path.read_bytes(), image.width // 2, image.height // 2)
            blocks.append(Gallery(name, [Strip("", picture, f"Samples: {about}")]))
    blocks.append(Code(one.record.command))
    return Section(one.study.title, blocks)
