"""One self-contained HTML page: sections of text, tables, figures and images, every text escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, Protocol

from fpdm.drawing.images import Png
from fpdm.drawing.plots import Rendered
from fpdm.drawing.text import slug
from fpdm.drawing.theme import DARK, LIGHT, Theme

NARROW = "44rem"  # of a window, and below that a phone's layout


class Markup(str):
    """Text that is HTML already; any other is escaped when it comes into an element."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | int | bool) -> Markup:
    """An HTML element; "class_" stands for "class", "aria_label" for "aria-label", and False for no attribute.

    Args:
        name: Of the element; one that HTML does not close takes no children.
        *children: Text, escaped, or `Markup`.
        **attributes: Values, escaped.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    if name in ("img", "meta"):
        assert not children
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """One after the other, escaped where they are not `Markup`."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


class Block(Protocol):
    """A part of a section."""

    def html(self) -> Markup:
        """As HTML."""
        ...


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `lead` for one that says what matters most."""

    text: str
    lead: bool = False

    def html(self) -> Markup:
        """As `Block.html`."""
        return element("p", self.text, class_="lead" if self.lead else False)


@dataclass(frozen=True)
class Bullets:
    """Items of a list, each with the words that it begins with."""

    items: Sequence[tuple[str, str]]

    def html(self) -> Markup:
        """As `Block.html`."""
        return element("ul", *(element("li", element("b", head), " ", text) for head, text in self.items))


@dataclass(frozen=True)
class Code:
    """Text to be copied, as it is."""

    text: str

    def html(self) -> Markup:
        """As `Block.html`."""
        return element("pre", element("code", self.text), tabindex=0)


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        detail: Smaller, beneath it.
        mark: "best" is set in bold, "even" (not clearly different from the best) with a wavy sign.
    """

    text: str
    detail: str = ""
    mark: Literal["", "best", "even"] = ""

    def html(self) -> Markup:
        """What stands between the cell's tags."""
        text = element("b", self.text) if self.mark == "best" else Markup(escape(self.text))
        parts = [element("span", "≈ ", class_="even") if self.mark == "even" else Markup(""), text]
        return joined([*parts, element("small", self.detail)] if self.detail else parts)


@dataclass(frozen=True)
class Group:
    """Rows of a table beneath a line of their own, if it has a title. A row's first cell says what it is about."""

    rows: Sequence[Sequence[str | Cell]]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table; on a narrow page it scrolls by itself.

    Attributes:
        caption: Above it.
        columns: Their headings.
        groups: The rows.
        words: Columns that hold words, aligned left; all others hold numbers. The first always does.
    """

    caption: str
    columns: Sequence[str]
    groups: Sequence[Group]
    words: Sequence[str] = ()

    def html(self) -> Markup:
        """As `Block.html`."""
        head = element("tr", *(element("th", name, scope="col", class_=self._kind(i)) for i, name in self._numbered()))
        table = element("table", element("thead", head), *(self._group(group) for group in self.groups))
        # The caption stands outside of what scrolls.
        scroll = element("div", table, class_="scroll", tabindex=0, role="region", aria_label=self.caption)
        return element("figure", element("figcaption", self.caption), scroll, class_="table")

    def _numbered(self) -> Iterable[tuple[int, str]]:
        return enumerate(self.columns)

    def _kind(self, column: int) -> str | bool:
        return False if column == 0 or self.columns[column] in self.words else "number"

    def _group(self, group: Group) -> Markup:
        lines = []
        if group.title:
            title = element("th", element("span", group.title), colspan=len(self.columns), scope="rowgroup")
            lines.append(element("tr", title, class_="title"))
        for row in group.rows:
            assert len(row) == len(self.columns)
            first, *rest = (cell if isinstance(cell, Cell) else Cell(cell) for cell in row)
            cells = [element("td", cell.html(), class_=self._kind(i)) for i, cell in enumerate(rest, 1)]
            lines.append(element("tr", element("th", first.html(), scope="row"), *cells))
        return element("tbody", *lines)


@dataclass(frozen=True)
class Figure:
    """A plot.

    Attributes:
        picture: In its forms for light and dark, wide and narrow pages. Paper gets the light and wide one.
        alt: What it shows, for whoever does not see it.
        caption: Beneath it.
    """

    picture: Rendered
    alt: str
    caption: str

    def html(self) -> Markup:
        """As `Block.html`."""
        # The style shows one of the four. A <picture> would not do: browsers keep its choice when they go on to print.
        forms = {
            "wide on-light": self.picture.light,
            "wide on-dark": self.picture.dark,
            "narrow on-light": self.picture.narrow_light,
            "narrow on-dark": self.picture.narrow_dark,
        }
        images = (_image(png, self.alt, class_=form) for form, png in forms.items())
        return element("figure", *images, element("figcaption", self.caption))


@dataclass(frozen=True)
class Strip:
    """A row of a gallery: images side by side as one picture."""

    caption: str
    picture: Png
    alt: str


@dataclass(frozen=True)
class Gallery:
    """Strips of images beneath one another; on a narrow page they scroll by themselves, all together."""

    title: str
    strips: Sequence[Strip]

    def html(self) -> Markup:
        """As `Block.html`."""
        rows = [
            element("div", element("span", strip.caption), _image(strip.picture, strip.alt), class_="strip")
            for strip in self.strips
        ]
        inner = element("div", *rows, class_="strips")
        scroll = element("div", inner, class_="scroll", tabindex=0, role="region", aria_label=self.title)
        return element("figure", element("h3", self.title), scroll, class_="gallery")


@dataclass(frozen=True)
class Fold:
    """Blocks that a click unfolds."""

    summary: str
    blocks: Sequence[Block]

    def html(self) -> Markup:
        """As `Block.html`."""
        return element("details", element("summary", self.summary), *(block.html() for block in self.blocks))


@dataclass(frozen=True)
class Section:
    """A heading and what stands beneath it."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> Markup:
        """As `Block.html`."""
        blocks = (block.html() for block in self.blocks)
        return element("section", element("h2", self.title), *blocks, id=slug(self.title))


@dataclass(frozen=True)
class Page:
    """The page.

    Attributes:
        title: Of the page and the window.
        subtitle: A sentence beneath it.
        sections: With titles that differ; listed at the top.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]

    def html(self) -> str:
        """The whole file."""
        entries = [element("li", element("a", s.title, href=f"#{slug(s.title)}")) for s in self.sections]
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            # Whatever a name in the report looks like, the browser runs no script and loads nothing from elsewhere.
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("meta", name="color-scheme", content="light dark"),
            element("title", self.title),
            element("style", Markup(_style())),
        )
        header = element("header", element("h1", self.title), element("p", self.subtitle))
        contents = element("nav", element("ol", *entries), aria_label="Contents")
        sections = (section.html() for section in self.sections)
        body = element("body", element("main", header, contents, *sections))
        return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def _uri(picture: Png) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.data).decode()}"


def _image(picture: Png, alt: str, **attributes: str) -> Markup:
    return element("img", src=_uri(picture), alt=alt, width=picture.width, height=picture.height, **attributes)


def _colours(theme: Theme) -> str:
    names = ("background", "text", "muted", "line", "shade")
    return ":root{" + "".join(f"--{name}:{getattr(theme, name)};" for name in names) + "}"


def _style() -> str:
    dark, narrow = "(prefers-color-scheme:dark)", f"(max-width:{NARROW})"
    return "\n".join(
        [
            _colours(LIGHT) + _RULES,
            f"@media print,not all and {dark}{{.on-dark{{display:none}}}}",
            f"@media screen and {dark}{{{_colours(DARK)}.on-light{{display:none}}}}",
            f"@media print,not all and {narrow}{{.narrow{{display:none}}}}",
            f"@media screen and {narrow}{{{_PHONE}.wide{{display:none}}}}",
            f"@media print{{{_PAPER}}}",
        ]
    )


_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--background);color:var(--text);
 font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
main{max-width:70rem;margin:0 auto;padding:2.5rem 1.25rem 5rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.3rem;line-height:1.3;margin:3.25rem 0 .75rem;padding-top:.6rem;
 border-top:1px solid var(--line);font-weight:650}
h3{font-size:1rem;margin:1.75rem 0 .5rem;font-weight:600}
p,ul,figcaption{max-width:42rem}
p{margin:.6rem 0}
header p,figcaption,small{color:var(--muted)}
.lead{font-size:1.125rem;line-height:1.5}
a{color:inherit;text-decoration-color:var(--muted);text-underline-offset:.2em}
nav ol{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem 1.25rem;margin:1.25rem 0 0;padding:0;font-size:.9rem}
ul{padding-left:1.2rem}
li{margin:.3rem 0}
nav li{margin:0}
figure{margin:1.5rem 0}
img{max-width:100%;height:auto;vertical-align:top}
figcaption{font-size:.875rem;line-height:1.45;margin-top:.5rem}
.scroll{overflow-x:auto;margin:.5rem 0}
.scroll:focus-visible,pre:focus-visible{outline:2px solid var(--muted);outline-offset:2px}
table{border-collapse:collapse;font-size:.8125rem;line-height:1.35;font-variant-numeric:tabular-nums lining-nums}
th,td{padding:.3rem .5rem;text-align:left;vertical-align:baseline;border-bottom:1px solid var(--line)}
thead th{vertical-align:bottom;font-weight:600;border-bottom-color:var(--muted)}
:where(th:not(.number),td:not(.number)){min-width:6.5rem;overflow-wrap:anywhere}
tbody th{font-weight:400;min-width:9rem;max-width:18rem}
tr>:first-child{padding-left:0;position:sticky;left:0;background:var(--background)}
.number{text-align:right}
td.number{white-space:nowrap}
td small{display:block;font-size:.72rem}
td:not(.number) small{min-width:12rem}
td b{font-weight:700}
.even{color:var(--muted)}
tr.title>th{background:var(--shade);font-weight:600;padding:.35rem .6rem;max-width:none}
.title span{position:sticky;left:.6rem}
.strips{min-width:34rem;display:grid;gap:.25rem}
.strip{display:grid;grid-template-columns:11rem minmax(0,1fr);gap:.75rem;align-items:center}
.strip span{font-size:.8125rem;line-height:1.3;white-space:pre-line;overflow-wrap:anywhere}
.strip img{justify-self:start}
.gallery h3{margin-bottom:0}
pre{background:var(--shade);padding:.75rem 1rem;overflow-x:auto;
 font-size:.8125rem;line-height:1.45;border-radius:.25rem}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
details{margin:.5rem 0}
summary{cursor:pointer;overflow-wrap:anywhere}
"""
_PHONE = """
main{padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem}
.lead{font-size:1.05rem}
tbody th{min-width:7.5rem;max-width:9rem}
.strip{grid-template-columns:minmax(0,1fr);gap:.15rem}
.strip span{white-space:normal;position:sticky;left:0;justify-self:start;max-width:calc(100vw - 2rem)}
"""
_PAPER = """
@page{margin:14mm 12mm}
html{font-size:9.5pt}
main{max-width:none;padding:0}
p,ul,figcaption{max-width:none}
nav{display:none}
h2,h3,summary,.table figcaption{break-after:avoid}
figure,.strip,tr,li{break-inside:avoid}
.table{break-inside:auto}
.scroll,pre{overflow:visible}
pre{white-space:pre-wrap;overflow-wrap:anywhere}
table{font-size:6.6pt;width:100%}
td small{font-size:5.6pt}
td:not(.number) small{min-width:24mm}
th,td{padding:1.2pt 2.4pt}
tr>:first-child{position:static;background:none}
:where(th:not(.number),td:not(.number)){min-width:9mm}
tbody th{min-width:20mm;max-width:none}
thead{display:table-header-group}
.strips{min-width:0}
.strip{grid-template-columns:28mm minmax(0,1fr)}
"""
