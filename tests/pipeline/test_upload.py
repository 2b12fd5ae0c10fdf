"""Uploads, to a hub that is a folder."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fpdm.pipeline import upload as module
from tests import pipelines


class Hub:
    """The part of the hub's interface that an upload uses, over a folder."""

    root: Path

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> Any:
        assert exist_ok
        name = repo_id if "/" in repo_id else f"me/{repo_id}"
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=name)

    def file_exists(self, repo_id: str, name: str) -> bool:
        return (self.root / repo_id / name).is_file()

    def hf_hub_download(self, repo_id: str, name: str) -> str:
        return str(self.root / repo_id / name)

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: Path,
        path_in_repo: str | None,
        ignore_patterns: list[str] | None,
        **settings: Any,
    ) -> Any:
        for path in folder_path.rglob("*"):
            name = path.relative_to(folder_path).as_posix()
            if path.is_file() and not any(fnmatch.fnmatch(name, one) for one in ignore_patterns or ()):
                there = self.root / repo_id / (path_in_repo or "") / name
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, there)
        return settings


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Hub, "root", tmp_path / "hub", raising=False)
    monkeypatch.setattr(module, "HfApi", Hub)
    return tmp_path / "hub"


FILES = {
    "sampling.json",
    *("README.md", "model_index.json", "pipeline.py", "scheduler/scheduler_config.json", "transformer/config.json"),
    *("transformer/fpdm_transformer.py", "transformer/diffusion_pytorch_model.safetensors"),
}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_pipeline_is_pushed_with_a_card_that_names_its_repository(hub: Path) -> None:
    done = pipelines.pixels().push_to_hub("cats", commit_message="Cats")
    assert done == {"commit_message": "Cats", "create_pr": False}
    assert files(hub / "me" / "cats") == FILES
    assert "FPDMPipeline.from_pretrained('cats')" in (hub / "me" / "cats" / "README.md").read_text()


def test_a_card_of_the_users_own_is_kept_and_a_generated_one_replaced(hub: Path) -> None:
    pipe, card = pipelines.pixels(), hub / "a" / "cats" / "README.md"
    pipe.push_to_hub("a/cats")
    pipe.register_to_config(name="cats of the second edition")
    pipe.push_to_hub("a/cats")
    assert "second edition" in card.read_text()
    card.write_text("My own words.")
    pipe.push_to_hub("a/cats")
    assert card.read_text() == "My own words."
    pipe.push_to_hub("a/cats", subfolder="small")
    assert files(hub / "a" / "cats" / "small") == FILES


def test_saving_and_pushing_in_one_go(hub: Path, tmp_path: Path) -> None:
    pipelines.pixels().save_pretrained(tmp_path / "cats", push_to_hub=True, private=True)
    assert files(hub / "me" / "cats") == files(tmp_path / "cats") == FILES
