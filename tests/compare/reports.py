"""Reports, read back from their HTML."""

from __future__ import annotations

from pathlib import Path

from fpdm.compare.report import write_report
from fpdm.compare.results import Comparison
from fpdm.drawing.sheets import Sheet
from tests.compare.reading import Element, number, read


def report(made: Comparison, folder: Path, shown: list[Sheet] | None = None, strip: Sheet | None = None) -> Element:
    path = write_report(made, shown or [], folder, strip)
    return read(path.read_text(encoding="utf-8"))


def section(page: Element, title: str) -> Element:
    return next(s for s in page.all("section") if s.all("h2")[0].text == title)


def titles(page: Element) -> list[str]:
    return [found.text for found in page.all("h2")]


def cells(table: Element) -> dict[tuple[str, str], dict[str, Element]]:
    """{(group, row): {heading: cell}}; of headings that come twice the later is called "2"."""
    headings: list[str] = []
    for th in table.all("thead")[0].all("th"):
        headings.append(th.text + ("2" if th.text in headings else ""))
    found = {}
    for body in table.all("tbody"):
        group = ""
        for row in body.all("tr"):
            inner = [child for child in row.children if isinstance(child, Element)]
            if len(inner) == 1:
                group = inner[0].text
            else:
                found[group, inner[0].text] = dict(zip(headings, inner, strict=True))
    return found


def value(cell: Element) -> float:
    """The number of a cell, without what is in small print."""
    small = cell.all("small")
    return number(cell.text.removesuffix(small[0].text) if small else cell.text)


def interval(cell: Element) -> list[float]:
    low, high = cell.all("small")[0].text.split(",")[0].split(" to ")
    return [number(low), number(high)]
