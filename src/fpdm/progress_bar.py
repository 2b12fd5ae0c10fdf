"""Progress bars that nest; a plain line every so often where the output is no terminal.

The process has one display, on stderr. On a terminal or in a notebook, it draws the open bars with rich. In a pipe or
a log file, it prints one line with the state of all of them, first after 10 seconds and then more and more seldom.
Nothing is shown by other threads than the main one, nor by processes that work for another one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fpdm.errors import printable

T = TypeVar("T")
_FIRST, _GROWTH, _MOST = 10.0, 0.25, 300.0  # seconds to the first line; to the next: a share of the time so far


class ProgressBar:
    """A task that advances.

    Attributes:
        label: What is being done.
        total: How many units that is; None if unknown.
        unit: Name of a unit, in the plural.
        done: Number of units done.
        note: What else to show, such as the loss.
    """

    def __init__(self, label: str, total: float | None, unit: str, done: float) -> None:
        self.label, self.total, self.unit, self.done, self.note = label, total, unit, done, ""
        self._explicit: float | None = None  # a share that no count of units says
        self._amount, self._inner = 0.0, 0.0  # units of the current step, and the share of it that is done
        self._start = self._time = time.monotonic()
        self._share = self.share or 0.0  # at that time

    def update(self, amount: float = 1, *, note: str | None = None) -> None:
        """Count units that are done."""
        self.done += amount
        self.note = self.note if note is None else note
        _display.show()

    def skip(self, amount: float) -> None:
        """Count units that were done before, which say nothing about the time that the others take."""
        self.update(amount)
        self._time, self._share = time.monotonic(), self.share or 0.0

    def set(self, done: float, share: float | None = None, *, note: str | None = None) -> None:
        """Set the number of units done.

        Args:
            done: Number of units.
            share: Share of the task that is done, from 0 to 1, where something else than the units decides, such as
                the clock; None for `done` of `total`.
            note: What else to show; None leaves it.
        """
        self._explicit = share
        self.update(done - self.done, note=note)

    @contextmanager
    def step(self, amount: float = 1, *, note: str | None = None) -> Iterator[None]:
        """Count units when the block ends. Within it, the next bar that is opened moves this one too."""
        self._amount, self._inner = amount, 0.0
        self.update(0, note=note)
        try:
            yield
        except BaseException:
            self._amount = 0.0
            raise
        self._amount = 0.0
        self.update(amount)

    @property
    def share(self) -> float | None:
        """Share of the task that is done, from 0 to 1; None if the total is unknown."""
        if self._explicit is not None:
            return min(max(self._explicit, 0.0), 1.0)
        if not self.total:
            return None
        return min((self.done + self._amount * self._inner) / self.total, 1.0)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left, from the mean speed so far, in seconds; None if nothing is known yet."""
        share, seconds = self.share, time.monotonic() - self._time
        if share is None or share <= self._share:
            return None
        return seconds * (1.0 - share) / (share - self._share)

    def percentage(self) -> str:
        """Return the share in whole percent, rounded down; empty if it is unknown."""
        return "" if self.share is None else f"{int(100 * self.share + 1e-9)}%"

    def time(self) -> str:
        """Return the time left, or the time that it took; empty if nothing is known."""
        if self.share == 1.0:
            return f"took {clock(time.monotonic() - self._start)}"
        return "" if self.seconds_left is None else f"{clock(self.seconds_left)} left"

    def detail(self) -> str:
        """Return the count and the note."""
        of = f"/{_number(self.total)}" if self.total else ""
        count = f"{_number(self.done)}{of} {self.unit}".rstrip() if of or self.unit else ""
        return ", ".join(filter(None, (count, printable(self.note))))

    def to_text(self) -> str:
        """Return everything in one line, for a log."""
        words = filter(None, (self.percentage(), self.time(), self.detail()))
        return f"{printable(self.label)}: {', '.join(words)}"


@contextmanager
def progress_bar(
    label: str,
    total: float | None = None,
    unit: str = "",
    *,
    initial: float = 0,
    leave: bool = False,
    inner: bool = False,
    shown: bool = True,
) -> Iterator[ProgressBar]:
    """Show the progress of a task while the block runs.

    Args:
        label: What is being done.
        total: Number of units; None if unknown.
        unit: Name of a unit, in the plural.
        initial: Number of units done before.
        leave: Leave the bar on the screen when the task has ended, unless it lies within another one.
        inner: Show it within another bar only.
        shown: Whether to show it at all.
    """
    bar = ProgressBar(label, total, unit, initial)
    if not (shown and _shows() and (_display.bars or not inner)):
        yield bar
        return
    _display.open(bar)
    try:
        yield bar
    finally:
        _display.close(bar, leave=leave)


def track(
    items: Iterable[T], label: str, total: float | None = None, unit: str = "", *, inner: bool = False
) -> Iterator[T]:
    """Yield the items, and show how many of them are done.

    Args:
        items: The items.
        label: What is done with them.
        total: Their number; None for their length, if they have one.
        unit: Name of an item, in the plural.
        inner: Show it within another bar only.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with progress_bar(label, total, unit, inner=inner) as bar:
        for item in items:
            with bar.step():
                yield item


def clock(seconds: float) -> str:
    """Return a time as 02:05 or 1:02:05."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours:,}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"


def _shows() -> bool:
    """Whether this process and thread may show something: one of several that work together does."""
    alone = os.environ.get("RANK", "0") == "0" and multiprocessing.parent_process() is None
    return alone and threading.current_thread() is threading.main_thread()


class _Display:
    """The bars that are open, the outermost first, and how they are shown."""

    def __init__(self) -> None:
        self.bars: list[ProgressBar] = []
        self._parents: dict[int, ProgressBar] = {}  # of a bar, the one whose step it is
        self._live: Any = None
        self._begun = self._next = 0.0
        self._printed = ""

    def open(self, bar: ProgressBar) -> None:
        """Show a bar below those that are open."""
        if self.bars and self.bars[-1]._amount:
            self._parents[id(bar)] = self.bars[-1]
        self.bars.append(bar)
        if len(self.bars) == 1:
            self._begun, self._next, self._printed = time.monotonic(), time.monotonic() + _FIRST, ""
            self._live = _live(self.bars)

    def close(self, bar: ProgressBar, *, leave: bool) -> None:
        """Take a bar away again, and those within it, such as that of a loop that was left."""
        if bar not in self.bars:
            return
        place = self.bars.index(bar)
        for one in self.bars[place:]:
            self._parents.pop(id(one), None)
        del self.bars[place + 1 :]
        if place == 0:
            live, self._live = self._live, None
            if live is not None:
                live.transient = not leave
                live.stop()
            elif self._printed:
                self._print(bar.to_text())
        del self.bars[place:]

    def show(self) -> None:
        """Follow a change: count it in the outer bars, and print a line if it is time for one."""
        for bar in reversed(self.bars):
            if (parent := self._parents.get(id(bar))) is not None:
                parent._inner = max(parent._inner, bar.share or 0.0)
        now = time.monotonic()
        if self.bars and self._live is None and now >= self._next:
            self._next = now + min(max(_FIRST, _GROWTH * (now - self._begun)), _MOST)
            self._print(" | ".join(bar.to_text() for bar in self.bars))

    def _print(self, text: str) -> None:
        if text != self._printed:
            print(text, file=sys.stderr, flush=True)
        self._printed = text


_display = _Display()


def _live(bars: list[ProgressBar]) -> Any:
    """Start to draw bars on the terminal, and return what stops it; None where there is no terminal."""
    terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    if not (terminal or "ipykernel" in sys.modules):
        return None
    from rich.console import Console  # slow to import
    from rich.live import Live

    console = Console(file=sys.stderr if terminal else None)
    if not (terminal or console.is_jupyter):  # the kernel's package may be imported by anything
        return None
    live = Live(
        console=console,
        get_renderable=lambda: _table(bars, console.width),
        refresh_per_second=5,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # else it is not on the terminal
    )
    live.start()
    console.show_cursor(True)  # for good, should the process be killed
    return live


def _table(bars: list[ProgressBar], width: int) -> Any:
    """Draw bars on `width` columns. What stands last is what is cut off."""
    from rich import progress_bar as drawn
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width // 4, 8))
    table.add_column(no_wrap=True, width=min(max(width // 10, 4), 30))
    table.add_column(no_wrap=True, width=4, justify="right")
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for level, bar in enumerate([*bars]):
        line = drawn.ProgressBar(total=1.0, completed=bar.share or 0.0, pulse=bar.share is None)
        label = Text("  " * level + printable(bar.label))
        table.add_row(label, line, bar.percentage(), Text(bar.time(), style="cyan"), Text(bar.detail()))
    return table
