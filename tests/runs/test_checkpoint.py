import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fpdm.errors import CheckpointError
from fpdm.files import sha256_of
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


def _manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        values = json.loads((path / "manifest.json").read_text())
        changed = change(values)
        (path / "manifest.json").write_text(json.dumps(values if changed is None else changed))

    return damage


def _state(change: object) -> Callable[[Path], None]:
    """Replace the state behind a manifest that is right."""

    def damage(path: Path) -> None:
        (path / "state.json").write_text(json.dumps(change))
        entry = {"bytes": (path / "state.json").stat().st_size, "sha256": sha256_of(path / "state.json")}
        _manifest(lambda values: values["files"].update({"state.json": entry}))(path)

    return damage


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _file_for_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda p: _flip(p / "a" / "b.safetensors"),
    "state": lambda p: _flip(p / "state.json"),
    "truncated": lambda p: os.truncate(p / "a" / "b.safetensors", 10),
    "missing": lambda p: (p / "a" / "b.safetensors").unlink(),
    "no manifest": lambda p: (p / "manifest.json").unlink(),
    "foreign manifest": lambda p: (p / "manifest.json").write_text("[]"),
    "half a manifest": lambda p: (p / "manifest.json").write_text("{"),
    "empty manifest": lambda p: (p / "manifest.json").write_text("{}"),
    "deep manifest": lambda p: (p / "manifest.json").write_text("[" * 50_000),
    "deep key": lambda p: (p / "manifest.json").write_text('{"format":' * 50_000),
    "binary manifest": lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe"),
    "no files": _manifest(lambda values: values.pop("files") and None),
    "emptied files": _manifest(lambda values: values["files"].clear()),
    "no state listed": _manifest(lambda values: values["files"].pop("state.json") and None),
    "files are a list": _manifest(lambda values: {**values, "files": [*values["files"]]}),
    "an entry is a text": _manifest(lambda values: values["files"].update({"state.json": "x"})),
    "an entry lacks its hash": _manifest(lambda values: values["files"]["state.json"].pop("sha256") and None),
    "a file outside": _manifest(
        lambda values: values["files"].update({"../step-000000001/note.txt": values["files"]["note.txt"]})
    ),
    "a name with a null": _manifest(lambda values: values["files"].update({"\0": values["files"]["note.txt"]})),
    "a long name": _manifest(lambda values: values["files"].update({"x" * 5000: values["files"]["note.txt"]})),
    "format is a text": _manifest(lambda values: {**values, "format": "two"}),
    "format is null": _manifest(lambda values: {**values, "format": None}),
    "format is infinite": _manifest(lambda values: {**values, "format": float("inf")}),
    "format of another": _manifest(lambda values: {**values, "format": 3}),
    "older format": _manifest(lambda values: {**values, "format": 1}),
    "state is a list": _state([]),
    "manifest is a loop": lambda p: _loop(p / "manifest.json"),
    "weights are a loop": lambda p: _loop(p / "a" / "b.safetensors"),
    "manifest is a pipe": lambda p: _pipe(p / "manifest.json"),
    "weights are a pipe": lambda p: _pipe(p / "a" / "b.safetensors"),
    "a folder is a file": lambda p: _file_for_folder(p / "a"),
    "all is a file": _file_for_folder,
    "all is a loop": lambda p: (shutil.rmtree(p), p.symlink_to(p.name)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_newest_is_skipped_with_a_word(tmp_path: Path, name: str) -> None:
    good, newest = save(tmp_path, 1), save(tmp_path, 2)
    DAMAGES[name](newest)
    with pytest.warns(RuntimeWarning, match=r"step-000000002 is damaged: .*; trying the one before") as said:
        found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.path == good
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    # The run goes on from there: the damaged one is replaced, and deleted at last.
    assert not checkpoint.is_whole(tmp_path, 2)
    assert checkpoint.verify(save(tmp_path, 2)).state["step"] == 2
    DAMAGES[name](newest)
    checkpoint.prune(tmp_path, 2, 1)
    assert [one.name for one in tmp_path.iterdir()] == ["step-000000001"]


def test_what_cannot_be_loaded_is_skipped_as_what_is_damaged(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)

    def load(found: checkpoint.Checkpoint) -> int:
        if found.state["step"] > 1:
            raise CheckpointError(f"{found.path} does not fit")
        return found.state["step"]

    with pytest.warns(RuntimeWarning, match="does not fit; trying the one before") as said:
        assert checkpoint.load_latest(tmp_path, load) == 1
    assert len(said) == 2
    assert checkpoint.load_latest(tmp_path / "none", load) is None


def test_only_files_that_are_listed_are_ever_read(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    _manifest(lambda values: values["files"].pop("a/b.safetensors") and None)(path)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    with pytest.raises(CheckpointError, match=r"its manifest does not list a/b\.safetensors"):
        found.tensors("a/b.safetensors")
    assert not checkpoint.is_whole(tmp_path, 1, {"a/b.safetensors"})
    assert checkpoint.is_whole(tmp_path, 1, {"note.txt", "state.json"})


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"seconds": "long"}, "seconds is 'long'; expected a number of at least 0"),
        ({"seconds": None}, "seconds is None; expected a number"),
        ({"seconds": float("inf")}, "seconds is inf; expected a finite number"),
        ({"macs": [1]}, r"macs is \[1\]; expected a number"),
        ({"skipped": -1}, "skipped is -1; expected an integer of at least 0"),
    ],
)
def test_a_state_of_wrong_types_is_damage_whatever_its_hash(tmp_path: Path, state: dict[str, Any], says: str) -> None:
    path = checkpoint.save(tmp_path, 1, TENSORS, {}, state)
    with pytest.raises(CheckpointError, match=f"{path} is damaged: {says}"):
        _ = checkpoint.verify(path).progress


def test_values_of_the_state_have_a_type(tmp_path: Path) -> None:
    found = checkpoint.verify(checkpoint.save(tmp_path, 1, {}, {}, {"window": [{"a": 0.5, "b": None}], "n": "x"}))
    assert found.value("window", list[dict[str, float | None]]) == [{"a": 0.5, "b": None}]
    with pytest.raises(CheckpointError, match=r"is damaged: n is 'x'; expected an integer"):
        found.value("n", int)
    with pytest.raises(CheckpointError, match=r"is damaged: state.json lacks m"):
        found.value("m", int)


def test_strangers_beside_the_checkpoints_disturb_nothing_and_are_left_alone(tmp_path: Path) -> None:
    strangers = (
        "step-notes.txt",
        "step-000000007 (copy)",
        "step-000000003.bak",
        ".DS_Store",
        "step-9",
    )
    for name in strangers:
        (tmp_path / name).write_text("mine")
    (tmp_path / "step-000000009x").mkdir()
    assert checkpoint.latest(tmp_path) is None
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
        checkpoint.prune(tmp_path, 2, step)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.state["step"] == 4
    kept = {"step-000000003", "step-000000004", "step-000000009x", *strangers}
    assert {one.name for one in tmp_path.iterdir()} == kept


def test_what_cannot_be_deleted_is_told_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)

    def busy(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint.shutil, "rmtree", busy)
    with pytest.warns(RuntimeWarning, match="step-000000001 cannot be deleted: Permission denied"):
        checkpoint.prune(tmp_path, 2, 3)


def test_steps_are_numbers_not_words(tmp_path: Path) -> None:
    for step in (999_999_999, 1_000_000_000):
        save(tmp_path, step)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.state["step"] == 1_000_000_000


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_all_files_have_the_permissions_that_the_user_wants(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = save(tmp_path, 1)
    finally:
        os.umask(before)
    modes = {oct(stat.S_IMODE(one.stat().st_mode)) for one in path.rglob("*") if one.is_file()}
    assert modes == {oct(0o666 & ~umask)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e5m2, torch.int64])
def test_weights_of_other_numbers_do_not_fit(tmp_path: Path, dtype: torch.dtype) -> None:
    path = checkpoint.save(tmp_path, 1, {"w": {"a": torch.zeros(2).to(dtype)}}, {}, {})
    found = checkpoint.verify(path).tensors("w")
    with pytest.raises(CheckpointError, match=r"a is .*; expected floating-point numbers of 16, 32 or 64 bits"):
        checkpoint.check_names(path / "w", found, {"a": torch.zeros(2)})


def test_all_damaged_is_no_fresh_start(tmp_path: Path) -> None:
    for step in (1, 2):
        _flip(save(tmp_path, step) / "state.json")
    with pytest.warns(RuntimeWarning), pytest.raises(CheckpointError, match=r"all 2 checkpoints .* cannot be used"):
        checkpoint.latest(tmp_path)
    shutil.rmtree(tmp_path / "step-000000002")
    with pytest.raises(CheckpointError, match=r"the only checkpoint in .* cannot be used: .* state\.json is not"):
        checkpoint.latest(tmp_path)


def test_newer_format_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    _state({"format": 3, "step": 1})(path)
    _manifest(lambda values: {**values, "format": 3})(path)
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

    monkeypatch.setattr(checkpoint, "write_tensors", counted(checkpoint.write_tensors))
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


def test_a_full_disk_leaves_the_earlier_checkpoints_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "write_tensors", full)
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
