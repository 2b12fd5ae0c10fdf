"""What a terminal and a log get to see of progress, under a clock that the tests turn."""

from __future__ import annotations

import io
import itertools
import sys
import threading
import types

import pytest
from rich.console import Console

from fpdm import progress_bar as module
from fpdm.progress_bar import clock, progress_bar, track


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds on the clock, in a list of one."""
    seconds = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_log_gets_a_line_with_the_time_left_every_so_often(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("run", 1000, "steps") as bar:
        for step in range(1, 1001):
            now[0] += 1.0
            bar.update(note=f"loss {1 / step:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "run: 1%, 16:30 left, 10/1,000 steps, loss 0.10"
    assert lines[-1] == "run: 100%, took 16:40, 1,000/1,000 steps, loss 0.00"
    assert 10 < len(lines) < 30
    seconds = [int(line.split("/")[0].split()[-1].replace(",", "")) for line in lines[:-1]]
    gaps = [after - before for before, after in itertools.pairwise(seconds)]
    assert gaps == sorted(gaps)  # more and more seldom
    assert max(gaps) <= 300


def test_a_short_task_leaves_nothing_in_a_log(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(9), "reading"):
        now[0] += 1.0
    assert capsys.readouterr() == ("", "")


def test_a_kernels_package_without_a_kernel_is_no_notebook(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    with progress_bar("reading", 9, "files", leave=True) as bar:
        bar.update(9)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        """What rich looks for."""

    shown: list[object] = []
    display = types.ModuleType("IPython.display")
    display.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)
    for _ in track(range(9), "reading"):
        pass
    assert shown


def test_the_clock_may_decide_on_the_percentage(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("run", None, "steps") as bar:
        now[0] += 30.0
        bar.set(7, 30 / 120)
    assert capsys.readouterr().err.splitlines()[0] == "run: 25%, 01:30 left, 7 steps"


def test_what_was_done_before_says_nothing_of_the_time_left(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("run", 100, "images", initial=50) as bar:
        bar.skip(20)
        now[0] += 60.0
        bar.update(10)
        assert bar.seconds_left == pytest.approx(120.0)
    assert "80%, 02:00 left, 80/100 images" in capsys.readouterr().err


def test_a_bar_within_a_step_moves_the_outer_bars(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with (
        progress_bar("comparing", 2, "results") as outer,
        outer.step(note="fpdm"),
        progress_bar("sampling", 64, "images") as middle,
        middle.step(64),
    ):
        steps = track(range(4), "batch", unit="steps")
        next(steps)
        next(steps)
        now[0] += 10.0
        next(steps)
        assert (outer.share, middle.share) == (0.25, 0.5)
    line = capsys.readouterr().err.splitlines()[0]
    assert line == (
        "comparing: 25%, 00:30 left, 0/2 results, fpdm | sampling: 50%, 00:10 left, 0/64 images | "
        "batch: 50%, 00:10 left, 2/4 steps"
    )
    assert outer.done == 1
    assert not module._display.bars  # the loop that was left too


def test_a_bar_outside_of_a_step_leaves_the_outer_one_alone() -> None:
    with progress_bar("training", 10, "steps") as outer:
        outer.update(5)
        for _ in track(range(3), "validation"):
            assert outer.share == 0.5


def test_a_step_that_fails_is_not_counted() -> None:
    with progress_bar("run", 2) as bar:
        with pytest.raises(ValueError), bar.step():
            raise ValueError
        assert bar.done == 0


def test_other_threads_workers_and_ranks_show_nothing(
    now: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        for _ in track(range(9), "reading"):
            now[0] += 100.0

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    monkeypatch.setattr(module.multiprocessing, "parent_process", lambda: object())
    work()
    monkeypatch.undo()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("RANK", "1")
    work()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    work()
    assert "reading" in capsys.readouterr().err


def test_an_inner_bar_is_shown_within_another_one_only(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(2), "batch", inner=True):
        now[0] += 100.0
    assert not capsys.readouterr().err
    with progress_bar("run"):
        for _ in track(range(2), "batch", inner=True):
            now[0] += 100.0
    assert "run:  | batch: 50%" in capsys.readouterr().err


def test_names_reach_a_log_escaped(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("a\x1b[31m", 2) as bar:
        now[0] += 100.0
        bar.update(note="b\x9b2J")
    assert "a\\x1b[31m: 50%" in (text := capsys.readouterr().err)
    assert "b\\x9b2J" in text


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, kind: str) -> Terminal:
    """Put a terminal in the place of stderr."""
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    return stream


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_time_left_is_seen_on_any_terminal(now: list[float], width: int) -> None:
    outer = module.ProgressBar("fpdm-elastic-timestep-everywhere-fashion-mnist", 400000, "steps", 0)
    inner = module.ProgressBar("measuring the loss", 10, "batches", 0)
    now[0] += 3600.0
    outer.set(300000, 0.5, note="loss 0.234, residual 0.0123, gradient norm 0.9, skipped 0")
    console = Console(file=io.StringIO(), width=width)
    console.print(module._table([outer, inner], width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 2  # nothing is wrapped
    assert all(len(line) <= width for line in lines)
    assert " 50% 1:00:00 left" in lines[0]
    assert "  measu" in lines[1]
    if width >= 80:
        assert "300,000/400,000 steps" in lines[0]


def test_bars_are_drawn_on_a_terminal_and_the_outermost_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch, "xterm")
    with progress_bar("run", 2, "steps", leave=True) as bar:
        for _ in track(range(3), "validation"):
            print("a warning")
        bar.update(2)
    text = stream.getvalue()
    assert "\x1b[" in text
    assert text.rstrip().rpartition("run")[2].count("100%") == 1
    assert "2/2 steps" in text
    assert "\x1b[?25l" not in text.rpartition("\x1b[?25h")[2]  # the cursor is there again


def test_a_dumb_terminal_gets_lines(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch, "dumb")
    for _ in track(range(2), "reading"):
        now[0] += 20.0
    assert "\x1b" not in stream.getvalue()
    assert "reading: 50%, 00:20 left, 1/2" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "00:00"), (65, "01:05"), (3599.6, "1:00:00"), (360005, "100:00:05")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text
