"""Models on the hub: what can be the name of one, and its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def is_hub_id(name: str) -> bool:
    """Whether a text can be the name of a model on the hub, OWNER/NAME, and not only a path."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not name.endswith(_WEIGHTS)


def download(name: str, files: Sequence[str], **options: Any) -> Path:
    """Return the folder with some files of a model on the hub; those that it does not have are left out.

    Args:
        name: Name of the model.
        files: Paths of the files, or patterns for them.
        options: Further arguments of `huggingface_hub.snapshot_download`, such as `revision`.

    Raises:
        ValueError: There is no such model, or the hub cannot be reached and the files are not on this machine yet.
    """
    from huggingface_hub import snapshot_download  # only needed here

    try:
        return Path(snapshot_download(name, allow_patterns=[*files], **options))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{name} is not a file or folder, and the hub cannot provide it: {reason}") from error
