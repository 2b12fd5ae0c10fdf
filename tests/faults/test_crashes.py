"""Whatever is killed at any file operation goes on, and ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fpdm.runs import checkpoint
from tests.faults.crashes import Point, crash, operations, points, restored, result
from tests.faults.world import COMMANDS, called, words_of


def state(step: int) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, str], dict[str, int]]:
    return {"ema/a.safetensors": {"x": torch.full((3,), float(step))}}, {"recipe.json": f"{step}"}, {"value": step}


def steps_of_all(root: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in root.glob("step-*"))


def save(root: Path, step: int) -> None:
    checkpoint.save(root, step, *state(step))
    checkpoint.prune(root, 2, step)


def test_a_checkpoint_killed_at_any_operation_is_the_one_before_or_the_one_after(tmp_path: Path) -> None:
    root, before = tmp_path / "checkpoints", tmp_path / "before"
    for step in (1, 2):
        save(root, step)
    restored(root, before)
    done = operations(lambda: save(root, 3), root)
    kinds = [one.kind for one in done]
    assert {"open", "mkdir", "rename", "fsync", "remove", "rmdir"} <= {*kinds}
    after = result(root)
    for point in points(done):
        restored(before, root)
        crash(lambda: save(root, 3), root, point)
        found = checkpoint.latest(root)
        assert found is not None
        step = found.state["value"]
        assert step == (2 if point.at <= kinds.index("rename") else 3), point
        assert torch.equal(found.tensors("ema/a.safetensors")["x"], torch.full((3,), float(step)))
        if step == 2:
            save(root, 3)
        else:
            checkpoint.prune(root, 2, 3)
        assert result(root) == after, point


def test_a_checkpoint_that_is_made_again_is_killed_at_any_operation(tmp_path: Path) -> None:
    """A damaged one of the same step lies in the way."""
    root, before = tmp_path / "checkpoints", tmp_path / "before"
    for step in (1, 2, 3):
        save(root, step)
    (root / "step-000000003" / "state.json").write_text("{")
    restored(root, before)
    done = operations(lambda: save(root, 3), root)
    after = result(root)
    for point in points(done):
        restored(before, root)
        crash(lambda: save(root, 3), root, point)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            found = checkpoint.latest(root)
        assert found is not None
        assert found.state["value"] in (2, 3)
        save(root, 3)
        assert result(root) == after, point


def stopped(line: str, world: Path, folder: Path, every: int) -> list[Point]:
    """Stop a command at its points, and give it again; returns the points."""
    out = folder / ("out.npz" if line.startswith("reference") else "out")
    words = [*words_of(line, world), "--out", str(out)]

    def act() -> None:
        said = called(words)
        assert said.code == 0, said.err

    done = operations(act, folder)
    whole, tried = result(folder), points(done, every)
    for point in tried:
        restored(folder / "nothing", folder)
        folder.mkdir()
        crash(act, folder, point)
        act()
        assert result(folder) == whole, f"{line}: {point}, {done[point.at]}"
    return tried


LINES = {
    "prepare": (COMMANDS["cache"], 7),
    "sample": (COMMANDS["sampled"], 2),
    "evaluate": (COMMANDS["evaluated"], 4),
    "reference": (f"{COMMANDS['ref.npz']} --piece-size 150", 5),
}


@pytest.mark.parametrize("name", LINES)
def test_a_command_killed_at_some_operations_goes_on(name: str, world: Path, tmp_path: Path) -> None:
    line, every = LINES[name]
    assert len(stopped(line, world, tmp_path, 3 * every)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_command_killed_at_any_operation_goes_on(name: str, world: Path, tmp_path: Path) -> None:
    assert len(stopped(LINES[name][0], world, tmp_path, 1)) >= 8


LONG = {
    "compare": (COMMANDS["compared"], 12),
    "train-autoencoder": (COMMANDS["autoencoder"], 6),
    "export": ("export @run --format onnx", 6),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_a_long_command_killed_at_some_operations_goes_on(name: str, world: Path, tmp_path: Path) -> None:
    line, every = LONG[name]
    assert len(stopped(line, world, tmp_path, every)) >= 3


def test_this_file_sees_what_is_not_atomic(tmp_path: Path) -> None:
    def act() -> None:
        (tmp_path / "a").write_text("one")
        (tmp_path / "b").write_text("two")

    seen: set[tuple[str, ...]] = set()
    act_at: Callable[[Point], None] = lambda point: crash(act, tmp_path, point)  # noqa: E731
    for point in points(operations(act, tmp_path)):
        for path in tmp_path.iterdir():
            path.unlink()
        act_at(point)
        seen.add(tuple(f"{path.name}={path.read_text()}" for path in sorted(tmp_path.iterdir())))
    assert seen == {(), ("a=one",), ("a=",), ("a=o",)}
