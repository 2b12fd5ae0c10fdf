"""What can be a name on the hub, and what is said if it cannot provide it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpdm.hub import download, is_hub_id


@pytest.mark.parametrize(
    ("name", "can_be"),
    [
        ("stabilityai/sd-vae-ft-ema", True),
        ("facebook/DiT-XL-2-256", True),
        ("x", False),
        ("a/b/c", False),
        ("./a", False),
        ("../a", False),
        ("/a", False),
        ("a/b.safetensors", False),
        ("a/b.pt", False),
        ("a b/c", False),
        ("", False),
    ],
)
def test_a_name_has_an_owner_and_is_no_path(name: str, can_be: bool) -> None:
    assert is_hub_id(name) == can_be


def test_files_on_this_machine_are_found_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="a/b is not a file or folder, and the hub cannot provide it: ") as raised:
        download("a/b", ["config.json"])
    assert "\n" not in str(raised.value)
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--a--b" / "refs").mkdir()
    (tmp_path / "models--a--b" / "refs" / "main").write_text("0" * 40)
    assert (download("a/b", ["config.json"]) / "config.json").read_text() == "{}"
    assert download("a/b", ["*.json"], revision="0" * 40) == snapshot
    with pytest.raises(ValueError, match="the hub cannot provide it"):
        download("a/b", ["config.json"], revision="other")
