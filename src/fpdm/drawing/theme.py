"""Colours of pages and plots, light and dark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """The colours of one theme.

    Attributes:
        background: Background of the page and of plots.
        text: Text.
        muted: Captions, axes and other secondary text.
        line: Rules and grids.
        shade: Background of code and of headings within tables.
        series: Curves; most colour-blind readers can distinguish them.
    """

    background: str
    text: str
    muted: str
    line: str
    shade: str
    series: tuple[str, ...]


# The colours of Okabe and Ito (2008) except yellow, which is too faint on white; brighter on dark.
LIGHT = Theme(
    background="#ffffff",
    text="#1c1e21",
    muted="#5a6069",
    line="#dcdfe3",
    shade="#f4f5f6",
    series=("#0072b2", "#d55e00", "#009e73", "#b5528a", "#d99100", "#3fa7dd", "#3a3d42"),
)
DARK = Theme(
    background="#16181b",
    text="#e6e7e9",
    muted="#a0a6ae",
    line="#353a41",
    shade="#202327",
    series=("#5aa0f2", "#ff7f4d", "#2fc39a", "#ea8fc4", "#f2c94c", "#7fe3f5", "#b4bac3"),
)
