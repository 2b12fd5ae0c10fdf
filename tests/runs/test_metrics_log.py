import json
from pathlib import Path

from fpdm.runs.metrics_log import append_row, drop_rows_after, read_rows


def test_round_trip_with_a_word_for_nan(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, {"step": 1, "loss": 0.1})
    append_row(path, {"step": 2, "loss": float("nan"), "by_timestep": [(5, 0.2)]})
    assert read_rows(path) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": None, "by_timestep": [[5, 0.2]]}]
    assert "NaN" not in path.read_text()


def test_rows_after_a_step_and_a_line_that_was_cut_off_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    drop_rows_after(path, 3)
    assert not path.exists()
    for step in (2, 3, 4):
        append_row(path, {"step": step, "loss": 0.1 + 0.2})
    with path.open("a") as stream:
        stream.write('{"step": 3, "lo')
    drop_rows_after(path, 3)
    append_row(path, {"step": 4})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 3, 4]
    assert read_rows(path)[0]["loss"] == 0.1 + 0.2
