"""Logs: rows in, rows out, and nothing changed in between."""

import json
import os
from pathlib import Path

import pytest

from fpdm.runs.metrics_log import LogState, append_row, check_log, read_rows, rewind_log


def test_round_trip_with_a_word_for_nan(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, {"step": 1, "loss": 0.1})
    append_row(path, {"step": 2, "loss": float("nan"), "by_timestep": [(5, 0.2)]})
    assert read_rows(path) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": None, "by_timestep": [[5, 0.2]]}]
    assert "NaN" not in path.read_text()


def _log(path: Path, *steps: int) -> LogState:
    for step in steps:
        append_row(path, {"step": step, "loss": 0.1 + 0.2})
    return LogState.of(path)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("more", [b"", b'{"step": 4}\n', b'{"step": 3, "lo', b'{"step": 4}\n\n\xff\n{"step": 3}\n'])
def test_whatever_comes_after_the_checkpoint_is_dropped(tmp_path: Path, more: bytes, recorded: bool) -> None:
    path = tmp_path / "rows.jsonl"
    state = _log(path, 2, 3)
    before = path.read_bytes()
    path.write_bytes(before + more)
    rewind_log(path, state if recorded else None, 3)
    assert path.read_bytes() == before
    append_row(path, {"step": 4})
    assert [row["step"] for row in read_rows(path)] == [2, 3, 4]


def test_a_log_that_is_gone_begins_anew_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rewind_log(path, None, 3)
    rewind_log(path, LogState.of(path), 3)
    state = _log(path, 2)
    path.unlink()
    with pytest.warns(RuntimeWarning, match=r"rows\.jsonl is gone; a new one begins after step 3"):
        rewind_log(path, state, 3)
    assert not path.exists()


def test_every_changed_byte_of_a_log_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    state = _log(path, 2, 3)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"rows\.jsonl was changed since the checkpoint was saved"):
            rewind_log(path, state, 3)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="was changed"):
        check_log(path, state)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "is no row with a step"),
        (b"\xff", "is no text in UTF-8"),
        (b"{", "is not JSON"),
        (b"[" * 50_000, "is not JSON of ours: it is nested more"),
        (b"[]", "is no row with a step"),
        (b'{"loss": 1.0}', "is no row with a step"),
        (b'{"step": "3"}', "is no row with a step"),
        (b'{"step": 3, "step": 4}', "gives the key 'step' twice"),
    ],
)
def test_a_line_that_is_no_row_is_named_with_its_file(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    _log(path, 1)
    path.write_bytes(path.read_bytes() + line + b"\n" + json.dumps({"step": 3}).encode() + b"\n")
    for read in (read_rows, lambda path: rewind_log(path, None, 3)):
        with pytest.raises(ValueError, match=r".") as error:
            read(path)
        assert str(error.value).startswith(f"line 2 of {path} {says}")
        assert str(error.value).endswith("; remove the line, or move the file away")


def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)
    for read in (read_rows, LogState.of, lambda path: rewind_log(path, None, 3)):
        with pytest.raises(ValueError, match="is a pipe; expected a file"):
            read(path)
