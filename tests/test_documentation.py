"""The pages for people: links lead somewhere, commands are understood, and what is named exists."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.axe import violations_in_all_looks
from tests.browser import served, visit
from tests.commands.parsed import option_names, values

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*/README.md"), *ROOT.glob("benchmarks/*.md")]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_modules_that_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page.read_text(encoding="utf-8")):
            assert any((ROOT / folder / name).exists() for folder in ("", "src/fpdm")), f"{page.name} names {name}"


def commands(page: Path) -> list[list[str]]:
    """Return the words of every complete `fpdm` command in the code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"(?:^    .+\n)+", text, re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", "\n".join(blocks)).splitlines()
    found = (re.match(r"\s*(?:fpdm|two|(?:accelerate|torchrun) .*?-m fpdm) (.*)", line) for line in lines)
    return [shlex.split(match[1], comments=True) for match in found if match and "..." not in match[1]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_understood(page: Path) -> None:
    for name, *words in commands(page):
        values(name, *words)


def test_pages_have_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_targets_and_extras_within_sentences_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, rest in re.findall(r"`fpdm ([a-z][a-z-]*)([^`]*)`", text):
        known = {one for names in option_names(name).values() for one in names} | {"--help", "--debug"}
        assert {*re.findall(r"--[a-z][a-z-]*", rest)} <= known, f"fpdm {name}{rest}"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*re.findall(r"`make ([a-z-]+)", text)} <= {*targets}
    extras = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    installed = ",".join(re.findall(r"pip install '[^'\[]*\[([^\]]*)\]'", text))
    assert {*installed.split(",")} - {""} <= {*extras}


def messages() -> Iterator[str]:
    """Yield every text in the source, with an ellipsis for each of its values."""
    for path in (ROOT / "src" / "fpdm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def test_messages_that_are_explained_exist() -> None:
    known = "\n".join(messages())
    explained = re.findall(r"^\| `(.*?)` \|", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(explained) > 30
    assert [message for message in explained if message not in known] == []


def test_figures_of_the_knobs_are_those_of_their_records() -> None:
    knobs = (ROOT / "docs" / "knobs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\|(.*)\| \[[^\]]+\]\((.*)\) \|$", knobs, re.MULTILINE)
    assert len(rows) > 12
    for found, record in rows:
        text = (ROOT / "docs" / record / "README.md").read_text(encoding="utf-8")
        for figure in re.findall(r"\d+\.\d+", found):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", text), f"{figure} is not in {record}"


class SitePage(HTMLParser):
    """The places in a page of the site, and where its links lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.places |= {values[name] or "" for name in ("id", "name") if name in values}
        self.links |= {values[name] or "" for name in ("href", "src") if name in values}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` makes it, where a warning is an error."""
    build = pytest.importorskip("sphinx.cmd.build")
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    folder = tmp_path_factory.mktemp("site")
    assert build.main(["-qW", "--keep-going", "-c", str(ROOT / "docs"), str(ROOT), str(folder)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::sphinx", "ignore:::myst_parser")
def test_the_links_of_the_site_lead_somewhere(site: Path) -> None:
    pages = {path.resolve(): SitePage(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert len(pages) > 40
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            file, _, place = link.partition("#")
            if re.match(r"[a-z]+:", link):
                wrong += [link] if "src" in link else []
                continue
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            if not target.exists() or (place and target in pages and unquote(place) not in pages[target].places):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert wrong == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::sphinx", "ignore:::myst_parser")
@pytest.mark.parametrize("page", ["index.html", "docs/full-size.html"])
def test_the_site_is_for_all_readers(site: Path, page: str) -> None:
    with served(site) as address, visit(f"{address}{page}") as found:
        assert violations_in_all_looks(found.page) == []
