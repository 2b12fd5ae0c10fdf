"""Words: lists, and names that fit into plots and file names."""

from __future__ import annotations

import re
from collections.abc import Sequence


def listing(words: Sequence[str]) -> str:
    """One, "one and two", "one, two and three"."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def shortened(name: str, length: int) -> str:
    """At most `length` characters, the middle left out: names that differ at either end stay apart."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"


def plain(text: str) -> str:
    """For a plot, which would set what stands between two dollar signs as mathematics."""
    return text.replace("$", r"\$")


def slug(text: str) -> str:
    """For a file's name or an anchor: small letters, digits and hyphens, at most 60; never empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "untitled"
