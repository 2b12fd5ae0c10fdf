"""One self-contained HTML page: sections of text, tables, figures and images.

The classes here hold what the page says; `templates/page.html.j2` and `templates/page.css` say how it looks.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from fpdm.drawing.images import Png
from fpdm.drawing.plots import Rendered
from fpdm.drawing.text import slug
from fpdm.drawing.theme import DARK, LIGHT, Theme

TEMPLATES = Path(__file__).parent / "templates"


class Block(Protocol):
    """A part of a section. The template has a branch for each kind."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `lead` for the most important one."""

    text: str
    lead: bool = False
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Bullets:
    """A list of items, each with its first words in bold."""

    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Code:
    """Text to copy, shown as it is."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: The content.
        detail: Small print below it.
        mark: "best" is set in bold; "even" (not clearly different from the best) gets a wavy sign.
    """

    text: str
    detail: str = ""
    mark: Literal["", "best", "even"] = ""


@dataclass(frozen=True)
class Group:
    """Rows of a table, below a title row if there is a title. The first cell of a row is its heading."""

    rows: Sequence[Sequence[str | Cell]]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table. On a narrow page it scrolls on its own, and says so.

    Attributes:
        caption: Text above it.
        columns: Headings.
        groups: The rows.
        words: Headings of columns that hold words, aligned left like the first column; all others hold numbers.
    """

    caption: str
    columns: Sequence[str]
    groups: Sequence[Group]
    words: Sequence[str] = ()
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for group in self.groups for row in group.rows)

    def is_number(self, column: int) -> bool:
        """Return whether a column holds numbers."""
        return column > 0 and self.columns[column] not in self.words


@dataclass(frozen=True)
class Figure:
    """A plot.

    Attributes:
        picture: Its forms for light and dark, wide and narrow pages. Paper gets the light, wide one.
        alt: Description for readers who do not see it.
        caption: Text below it.
    """

    picture: Rendered
    alt: str
    caption: str
    kind: ClassVar[str] = "figure"

    def forms(self) -> Iterable[tuple[str, Png]]:
        """Yield each form with its CSS classes."""
        yield "wide on-light", self.picture.light
        yield "wide on-dark", self.picture.dark
        yield "narrow on-light", self.picture.narrow_light
        yield "narrow on-dark", self.picture.narrow_dark


@dataclass(frozen=True)
class Strip:
    """A row of a gallery: images side by side as one picture."""

    caption: str
    picture: Png
    alt: str


@dataclass(frozen=True)
class Gallery:
    """Strips of images, one below the other. On a narrow page they scroll together."""

    title: str
    strips: Sequence[Strip]
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Fold:
    """Blocks that open at a click."""

    summary: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """The page.

    Attributes:
        title: Title of the page and of the window.
        subtitle: A sentence below it; empty for none.
        sections: Sections with different titles; the contents list them.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]

    def html(self) -> str:
        """Return the whole file."""
        css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
        return _template().render(page=self, css=css, light=_colours(LIGHT), dark=_colours(DARK))


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["slug"] = slug
    environment.filters["data_uri"] = lambda png: f"data:image/webp;base64,{base64.b64encode(png.webp()).decode()}"
    environment.filters["as_cell"] = lambda value: value if isinstance(value, Cell) else Cell(value)
    return environment.get_template("page.html.j2")


def _colours(theme: Theme) -> dict[str, str]:
    return {name: value for name, value in asdict(theme).items() if isinstance(value, str)}
