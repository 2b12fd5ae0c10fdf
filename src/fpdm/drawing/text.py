"""Format lists of words, and names for plots, files and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fpdm.errors import printable


def listing(words: Sequence[str]) -> str:
    """Join words: "one", "one and two", "one, two and three"."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def shortened(name: str, length: int) -> str:
    """Shorten a name to `length` characters by leaving out the middle, so that both ends stay."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"


def plain(text: str) -> str:
    """Escape dollar signs, between which a plot would typeset mathematics."""
    return text.replace("$", r"\$")


def markdown(text: str) -> str:
    """Escape a name for a line or a table of Markdown, in which it then is text and no markup, HTML or line break."""
    return re.sub(r"[\\`*<|$~]|\](?=\()|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", printable(text))


def fenced(text: str, language: str) -> str:
    """Return a code block of Markdown, which no line of the text can end."""
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", text))])
    lines = "\n".join(map(printable, text.split("\n")))
    return f"{fence}{language}\n{lines}\n{fence}"


def slug(text: str) -> str:
    """Turn text into a name for a file or an anchor: 1 to 60 lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "untitled"
