"""Upload a pipeline's folder to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from fpdm.runs.layout import README
from fpdm.runs.model_card import is_generated
from fpdm.runs.pipeline_files import PIPELINE


def upload(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    subfolder: str | None = None,
) -> Any:
    """Upload a folder to the hub. A model card there that somebody wrote is kept.

    Args:
        folder: The folder.
        repo_id: Name of the repository, which is created if there is none.
        token: Token of the hub (default: the one that `hf auth login` stored).
        private: Whether to create a private repository.
        commit_message: Message of the commit.
        create_pr: Open a pull request instead of changing the repository.
        subfolder: Folder of the repository to upload to.

    Returns:
        What `huggingface_hub.upload_folder` returns.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    there = f"{subfolder}/{README}" if subfolder else README
    card = Path(api.hf_hub_download(repo_id, there)) if api.file_exists(repo_id, there) else None
    return api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        path_in_repo=subfolder,
        commit_message=commit_message or f"Upload {PIPELINE}",
        create_pr=create_pr,
        ignore_patterns=[README] if card is not None and not is_generated(card) else None,
    )
