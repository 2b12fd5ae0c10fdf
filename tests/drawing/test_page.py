from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from fpdm.drawing.images import Png
from fpdm.drawing.page import (
    Block,
    Bullets,
    Cell,
    Code,
    Figure,
    Fold,
    Gallery,
    Group,
    Page,
    Paragraph,
    Section,
    Strip,
    Table,
)
from fpdm.drawing.plots import Rendered
from fpdm.drawing.theme import DARK, LIGHT
from tests.compare.reading import Element, read

HOSTILE = "<script>alert(1)</script> \" ' & onload='x' </style> --> &lt;"


def png(width: int = 3) -> Png:
    return Png.of(Image.new("RGB", (width, 2)), width)


def page(text: str = "words") -> Page:
    """One of everything, with `text` wherever there is text."""
    table = Table(text, [text, "second", text + "3"], [Group([[text, Cell(text, text, "best"), text]], text)], [text])
    return Page(
        text,
        text,
        [
            Section("First", [Paragraph(text, lead=True), Bullets([(text, text)]), Code(text), table]),
            Section(
                "Second",
                [
                    Figure(Rendered(png(1), png(2), png(3), png(4)), text, text),
                    Gallery(text, [Strip(text, png(), text)]),
                    Fold(text, [Paragraph(text)]),
                ],
            ),
        ],
    )


def shown(block: Block) -> Element:
    """A block, alone on a page."""
    return read(Page("t", "s", [Section("x", [block])]).html()).all("section")[0]


def test_text_is_escaped_and_nothing_is_added_to_it() -> None:
    (item,) = shown(Bullets([(HOSTILE, HOSTILE)])).all("li")
    assert item.text == f"{HOSTILE} {HOSTILE}"
    assert [child.name for child in item.children if isinstance(child, Element)] == ["b"]
    (code,) = shown(Code(f"\n  {HOSTILE}\n")).all("pre")
    assert code.text == f"\n  {HOSTILE}\n"


def test_every_kind_of_block_is_in_the_template() -> None:
    for block in (kind for section in page().sections for kind in section.blocks):
        assert "words" in shown(block).text, block


def test_a_page_of_hostile_text_says_it_and_does_not_do_it() -> None:
    html = page(HOSTILE).html()
    root = read(html)
    assert not root.all("script")
    assert {a for e in everything(root) for a in e.attributes if a.startswith("on")} == set()
    for name in ("h1", "title", "th", "td", "p", "pre", "figcaption", "h3", "summary", "li"):
        assert any(HOSTILE in found.text for found in root.all(name)), name
    assert all(image.attributes["alt"] == HOSTILE for image in root.all("img"))
    assert root.all("div", "scroll")[0].attributes["aria-label"] == HOSTILE


def everything(root: Element) -> list[Element]:
    inner = [child for child in root.children if isinstance(child, Element)]
    return inner + [found for child in inner for found in everything(child)]


def test_nothing_comes_from_elsewhere() -> None:
    html = page().html()
    for found in everything(read(html)):
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            value = found.attributes.get(name, "data:")
            assert value.startswith(("data:image/webp;base64,", "data:", "#")), (found.name, name, value)
        assert found.name not in ("link", "iframe", "object", "embed", "base", "form")
    (style,) = read(html).all("style")
    assert not re.search(r"url\(|@import|https?:", style.text)
    policy = next(m for m in read(html).all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_are_of_the_size_that_is_said() -> None:
    images = read(page().html()).all("img")
    assert len(images) == 5
    for image in images:
        data = base64.b64decode(image.attributes["src"].partition("base64,")[2], validate=True)
        with Image.open(io.BytesIO(data)) as opened:
            assert (opened.format, opened.width) == ("WEBP", int(image.attributes["width"]))


def test_each_form_of_a_figure_is_shown_where_it_belongs_and_paper_gets_the_light_wide_one() -> None:
    html = page().html()
    figure = next(f for f in read(html).all("figure") if len(f.all("img")) == 4)
    forms = {tuple(i.attributes["class"].split()): int(i.attributes["width"]) for i in figure.all("img")}
    expected = {("wide", "on-light"): 1, ("wide", "on-dark"): 2, ("narrow", "on-light"): 3, ("narrow", "on-dark"): 4}
    assert forms == expected
    (style,) = read(html).all("style")
    for dark in (False, True):
        for narrow in (False, True):
            for paper in (False, True):
                hidden = {
                    name
                    for query, rules in media(style.text)
                    if holds(query, dark=dark, narrow=narrow, paper=paper)
                    for name in re.findall(r"\.([\w-]+)\{display:none\}", rules)
                }
                shown = [width for classes, width in forms.items() if not hidden & set(classes)]
                assert shown == [1 if paper else 1 + dark + 2 * narrow], (dark, narrow, paper)


def media(style: str) -> list[tuple[str, str]]:
    """(query, rules) of each @media, without spaces that mean nothing; rules nest no deeper than that."""
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    style = re.sub(r";(?=\})", "", re.sub(r"\s*([{}:;,])\s*", r"\1", style))
    return re.findall(r"@media ([^{]+)\{((?:[^{}]|\{[^{}]*\})*)\}", style)


def holds(query: str, *, dark: bool, narrow: bool, paper: bool) -> bool:
    """Whether a media query holds, of the few features that the page asks for."""
    facts = {"print": paper, "screen": not paper, "all": True}

    def feature(text: str) -> bool:
        if text.startswith("("):
            return {"(prefers-color-scheme:dark)": dark, "(max-width:44rem)": narrow}[text]
        return facts[text]

    def one(text: str) -> bool:
        negated = text.startswith("not ")
        return all(feature(part) for part in text.removeprefix("not ").split(" and ")) != negated

    return any(one(part.strip()) for part in query.split(","))


def test_light_and_dark_colours_are_the_plots() -> None:
    (style,) = read(page().html()).all("style")
    assert f"--background:{LIGHT.background}" in style.text.partition("@media")[0]
    dark = next(rules for query, rules in media(style.text) if "--background" in rules)
    assert f"--background:{DARK.background}" in dark


def test_the_page_fits_a_phone_and_paper() -> None:
    root = read(page().html())
    viewport = next(m for m in root.all("meta") if m.attributes.get("name") == "viewport")
    assert viewport.attributes["content"] == "width=device-width, initial-scale=1"
    for wide in (*root.all("table"), *root.all("div", "strips")):
        assert any(wide in scroll.all(wide.name) for scroll in root.all("div", "scroll"))
    paper = next(
        rules for query, rules in media(root.all("style")[0].text) if query == "print" and "@page" not in query
    )
    assert "break-inside:avoid" in paper
    assert "overflow:visible" in paper
    assert "details::details-content{content-visibility:visible" in paper


def test_a_wide_table_says_on_a_phone_that_it_scrolls() -> None:
    root = read(page().html())
    (style,) = root.all("style")
    assert ".hint {\n  display: none" in style.text.partition("@media")[2]
    narrow = next(rules for query, rules in media(style.text) if "max-width:44rem" in query and ".hint" in rules)
    assert ".hint{display:block" in narrow
    for columns, hints in ((3, 0), (4, 1)):
        names = [f"c{i}" for i in range(columns)]
        assert len(shown(Table("t", names, [Group([names])])).all("span", "hint")) == hints


def test_contents_lead_to_the_sections() -> None:
    root = read(page().html())
    links = [link.attributes["href"] for link in root.all("nav")[0].all("a")]
    assert links == [f"#{section.attributes['id']}" for section in root.all("section")] == ["#first", "#second"]


def test_a_table_marks_best_and_even_and_aligns_numbers() -> None:
    rows = [["a", Cell("1.0", mark="best"), "x"], ["b", Cell("1.1", "0.9 to 1.3", "even"), "y"]]
    (table,) = shown(Table("t", ["model", "value", "plan"], [Group(rows)], words=["plan"])).all("table")
    first, second = table.all("tbody")[0].all("tr")
    assert [td.attributes.get("class") for td in first.all("td")] == ["number", None]
    assert [th.attributes.get("class") for th in table.all("thead")[0].all("th")] == [None, "number", None]
    assert first.all("th")[0].attributes["scope"] == "row"
    assert [b.text for b in first.all("b")] == ["1.0"]
    assert not second.all("b")
    assert second.all("td")[0].text == "≈ 1.10.9 to 1.3"
    assert second.all("small")[0].text == "0.9 to 1.3"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(AssertionError):
        Table("t", ["a", "b"], [Group([["only one"]])])


def test_the_reader_of_these_tests_sees_bad_nesting() -> None:
    for bad in ("<b><i></b></i>", "<p>", "</p>", '<p a="1" a="2"></p>'):
        with pytest.raises(AssertionError):
            read(bad)
