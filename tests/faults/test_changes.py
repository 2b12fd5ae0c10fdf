"""A changed byte of a file is noticed before the file is used, or changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.changes import Reader, changes, counts, faults
from tests.faults.readers import readers


@pytest.fixture(scope="module")
def targets(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[Path], Reader]]:
    return readers(world, tmp_path_factory.mktemp("kept") / "kept")


@pytest.mark.parametrize("name", ["checkpoint", "cache", "statistics", "features", "samples"])
def test_changed_bytes_are_noticed_or_without_effect(name: str, targets: dict[str, tuple[list[Path], Reader]]) -> None:
    files, reader = targets[name]
    found = changes(files, reader, 60, seed=len(name))
    assert not faults(found)
    assert counts(found)["noticed"] > 20


def test_this_file_sees_what_is_not_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("content")
    assert len(faults(changes([path], path.read_bytes, 20, 0))) == 20
    assert not faults(changes([path], lambda: len(path.read_bytes()), 20, 0))
    assert path.read_text() == "content"
