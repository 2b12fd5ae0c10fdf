"""Folders are checked before anything long begins, and nothing is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fpdm.commands.folders import apart, writable


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "a" / "b", Path("a/b"), Path()):
        writable(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/run", "file/a/b"])
def test_a_file_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"--out {tmp_path / name}: {tmp_path / 'file'} is a file; expected a folder"):
        writable(tmp_path / name)


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    # Whoever runs the tests may be root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and mode == os.W_OK | os.X_OK)
    writable(tmp_path / "open")
    with pytest.raises(ValueError, match="closed cannot be written to"):
        writable(closed / "run")


def test_a_folder_within_the_images_is_refused_however_it_is_written(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "link").symlink_to(images)
    for folder in (images, images / "run", tmp_path / "x" / ".." / "images" / "run", tmp_path / "link" / "run"):
        with pytest.raises(ValueError, match=r"lies in the image folder .*; choose a folder outside of it"):
            apart(folder, images)
    for folder in (tmp_path, tmp_path / "images-2", images / ".." / "run"):
        apart(folder, images)
