"""The pages for people: links lead somewhere, commands are understood, and the README's Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.commands.parsed import values

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
