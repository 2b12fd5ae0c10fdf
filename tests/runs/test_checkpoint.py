import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from fpdm.errors import CheckpointError
from fpdm.runs import checkpoint

TENSORS = {"a/b.safetensors": {"w": torch.arange(6.0).view(2, 3)}}


def save(root: Path, step: int) -> Path:
    return checkpoint.save(root, step, TENSORS, {"note.txt": "hello"}, {"seconds": 0.1})


def test_round_trip(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.path == path
    assert found.state == {"seconds": 0.1, "format": 2, "step": 3}
    assert torch.equal(found.tensors("a/b.safetensors")["w"], TENSORS["a/b.safetensors"]["w"])
    assert (path / "note.txt").read_text() == "hello"
    assert {p.suffix for p in path.rglob("*") if p.is_file()} == {".json", ".safetensors", ".txt"}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: _flip(p / "a" / "b.safetensors"),
        lambda p: _flip(p / "state.json"),
        lambda p: os.truncate(p / "a" / "b.safetensors", 10),
        lambda p: (p / "a" / "b.safetensors").unlink(),
        lambda p: (p / "manifest.json").unlink(),
        lambda p: (p / "manifest.json").write_text("[]"),
        lambda p: (p / "manifest.json").write_text("{"),
    ],
    ids=["flipped bit", "state", "truncated", "missing", "no manifest", "foreign manifest", "half a manifest"],
)
def test_damaged_newest_is_skipped_with_a_word(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    good = save(tmp_path, 1)
    damage(save(tmp_path, 2))
    with pytest.warns(RuntimeWarning, match=r"step-000000002.*trying the one before"):
        found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.path == good


def test_all_damaged_is_no_fresh_start(tmp_path: Path) -> None:
    for step in (1, 2):
        _flip(save(tmp_path, step) / "state.json")
    with pytest.warns(RuntimeWarning), pytest.raises(CheckpointError, match=r"all 2 checkpoints .* are damaged"):
        checkpoint.latest(tmp_path)


def test_newer_format_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 3}))
    with pytest.raises(CheckpointError, match="newer than this version's 2; update fpdm"):
        checkpoint.latest(path.parent)


@pytest.mark.parametrize("call", range(12))
def test_killed_inside_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """At every point where a save touches the disk for good, a kill leaves the one before in place."""

    class Killed(BaseException):
        pass

    save(tmp_path, 1)
    calls = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls > call:
                raise Killed
            return real(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(checkpoint, "save_file", counted(checkpoint.save_file))
    monkeypatch.setattr(checkpoint, "_sync", counted(checkpoint._sync))
    monkeypatch.setattr(Path, "write_text", counted(Path.write_text))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)  # a kill cleans up nothing
    try:
        save(tmp_path, 2)
        survived = True
    except Killed:
        survived = False
    monkeypatch.undo()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.state["step"] in ((2,) if survived else (1, 2))
    checkpoint.prune(tmp_path, 2, found.state["step"])
    assert not list(tmp_path.glob(".writing-*"))
    assert save(tmp_path, 2).exists()


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (5, 1, 12, 7):
        save(tmp_path, step)
    checkpoint.prune(tmp_path, 2, 12)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000007", "step-000000012"]


def test_prune_counts_no_checkpoint_that_was_skipped_as_damaged(tmp_path: Path) -> None:
    for step in (4, 6, 9):
        save(tmp_path, step)
    # 9 was damaged, the run went on from 6 and has saved 8.
    save(tmp_path, 8)
    checkpoint.prune(tmp_path, 2, 8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000006", "step-000000008"]


def test_refused_by_the_system_is_an_oserror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The safetensors library has a word of its own for a full disk."""

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001"]


def test_other_architecture_names_what_differs() -> None:
    expected = {"w": torch.zeros(2, 3), "b": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"b is missing; x is unknown; w is \(2, 4\), expected \(2, 3\)"):
        checkpoint.check_names(Path("m"), {"w": torch.zeros(2, 4), "x": torch.zeros(1)}, expected)
    with pytest.raises(CheckpointError, match="b holds nan or inf"):
        checkpoint.check_names(Path("m"), {"w": torch.zeros(2, 3), "b": torch.full((3,), torch.nan)}, expected)


def test_a_read_that_fails_says_nothing_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint.save(tmp_path, 1, {"model.safetensors": {"a": torch.zeros(2)}}, {}, {})

    def unreadable(_: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint, "sha256_of", unreadable)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint.latest(tmp_path)
    assert path.exists()
