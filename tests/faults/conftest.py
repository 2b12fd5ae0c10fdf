"""The world of these tests, and a cache of features of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that no test may change, or that it puts back."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of validation images are kept from test to test, and not in the user's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
