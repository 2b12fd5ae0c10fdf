"""A command writes to a folder that is new, empty or its own, and to nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fpdm import __version__
from fpdm.outputs import MARKER, OutputFolder, check_file

KIND = OutputFolder("draw", "settings.json", frozenset({"seed"}), frozenset({"settings.json"}))
OTHER = OutputFolder("measure", "result.json", frozenset({"value"}))


def content(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_new_or_an_empty_folder_is_taken_and_not_made_by_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "a" / "b", Path("a/b"), Path()):
        KIND.check(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("litter", [".DS_Store", ".gitkeep", "Thumbs.db", ".lock"])
def test_what_systems_leave_everywhere_makes_no_folder_someones(tmp_path: Path, litter: str) -> None:
    (tmp_path / litter).touch()
    KIND.check(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "settings.json", "000000.png"])
def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"unrelated": 1}')
    before = content(tmp_path)
    expected = (
        f"--out {tmp_path} has other files, such as {name}; expected a new or empty folder, or one made by fpdm draw"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        KIND.check(tmp_path)
    with pytest.raises(ValueError, match="has other files"), KIND.hold(tmp_path):
        pass
    assert content(tmp_path) == before


@pytest.mark.parametrize("damage", ["", "[]", "{", "\xff", '{"command": 3}', "[" * 100_000])
def test_a_damaged_marker_makes_no_folder_ours(tmp_path: Path, damage: str) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / MARKER).write_text(damage, encoding="latin-1")
    with pytest.raises(ValueError, match="has other files"):
        KIND.check(tmp_path)


def test_the_same_command_comes_back_to_its_folder_and_another_does_not(tmp_path: Path) -> None:
    with KIND.hold(tmp_path / "a"):
        (tmp_path / "a" / "0.png").touch()
    KIND.check(tmp_path / "a")
    with KIND.hold(tmp_path / "a"):
        pass
    with pytest.raises(
        ValueError, match=r"a was made by fpdm draw; expected a new or empty folder, or one made by fpdm measure"
    ):
        OTHER.check(tmp_path / "a")
    assert json.loads((tmp_path / "a" / MARKER).read_text()) == {"fpdm": __version__, "command": "draw"}


def test_a_folder_from_before_there_were_markers_is_recognised_by_its_record(tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    (tmp_path / "settings.json").write_text('{"seed": 1, "more": 2}')
    KIND.check(tmp_path)
    with pytest.raises(ValueError, match="has other files"):
        OTHER.check(tmp_path)


@pytest.mark.parametrize("name", ["file", "file/run", "file/a/b"])
def test_a_file_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"--out {tmp_path / name}: {tmp_path / 'file'} is a file; expected a folder"):
        KIND.check(tmp_path / name)


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    # Whoever runs the tests may be root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and mode == os.W_OK | os.X_OK)
    KIND.check(tmp_path / "open")
    with pytest.raises(ValueError, match="closed cannot be written to"):
        KIND.check(closed / "run")


def test_a_folder_within_an_input_is_refused_however_it_is_written(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to(images)
    (tmp_path / "x").mkdir()
    for folder in (images, images / "run", tmp_path / "x" / ".." / "images" / "run", tmp_path / "link" / "run"):
        with pytest.raises(ValueError, match=r"lies in the image folder .*; choose a folder outside of it"):
            KIND.check(folder, {"image folder": images})
    for folder in (tmp_path / "new", tmp_path / "images-2", images / ".." / "run"):
        KIND.check(folder, {"image folder": images, "nothing": None, "gone": tmp_path / "gone"})


def test_what_was_made_is_taken_away_if_there_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".gitkeep").touch()
    for folder in (tmp_path / "a" / "b", tmp_path / "empty"):
        with pytest.raises(ValueError, match="late"), KIND.hold(folder):  # noqa: PT012
            (folder / "settings.json").write_text("{}")
            (folder / "rows").mkdir()
            raise ValueError("late")
    assert content(tmp_path) == {"empty/.gitkeep": b""}
    assert [one.name for one in tmp_path.iterdir()] == ["empty"]


def test_results_stay_whatever_happens(tmp_path: Path) -> None:
    for attempt in range(2):
        with pytest.raises(KeyboardInterrupt), KIND.hold(tmp_path / "a"):  # noqa: PT012
            (tmp_path / "a" / "settings.json").write_text("{}")
            (tmp_path / "a" / f"{attempt}.png").touch()
            raise KeyboardInterrupt
    assert {*content(tmp_path / "a")} >= {"settings.json", "0.png", "1.png", MARKER}
    with pytest.raises(ValueError, match="late"), KIND.hold(tmp_path / "a"):  # which finds results of earlier calls
        raise ValueError("late")
    assert {*content(tmp_path / "a")} >= {"settings.json", "0.png", "1.png", MARKER}


def test_a_block_within_a_block_is_part_of_it(tmp_path: Path) -> None:
    with KIND.hold(tmp_path / "a"):
        with KIND.hold(tmp_path / "a"):
            (tmp_path / "a" / "0.png").touch()
        command = (
            "import sys; from pathlib import Path; from fpdm.files import lock; lock(Path(sys.argv[1])).__enter__()"
        )
        done = subprocess.run([sys.executable, "-c", command, str(tmp_path / "a")], capture_output=True, text=True)
        assert "is in use by process" in done.stderr


def test_a_path_through_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    for check in (KIND.check, check_file):
        with pytest.raises(ValueError, match=r"there is no .*new, so that \.\. in it leads nowhere"):
            check(tmp_path / "new" / ".." / "other" / "x")
    assert not [*tmp_path.iterdir()]


def test_a_file_is_replaced_only_if_it_is_ours_or_the_user_says_so(tmp_path: Path) -> None:
    check_file(tmp_path / "new" / "x.npz")
    assert not (tmp_path / "new").exists()
    (tmp_path / "x.npz").write_text("of the user")
    with pytest.raises(ValueError, match=r"x\.npz exists already; choose another name, or replace it with --overwrite"):
        check_file(tmp_path / "x.npz")
    check_file(tmp_path / "x.npz", ours=True)
    (tmp_path / "link.npz").symlink_to("nowhere")  # which would be replaced by the file
    with pytest.raises(ValueError, match=r"link\.npz exists already"):
        check_file(tmp_path / "link.npz", ours=True)
    check_file(tmp_path / "x.npz", overwrite=True)
    with pytest.raises(ValueError, match="is a folder; expected a file"):
        check_file(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match=r"x\.npz is a file; expected a folder"):
        check_file(tmp_path / "x.npz" / "y.npz")
