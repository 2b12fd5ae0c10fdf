"""Reader of foreign checkpoints, as weights only: no code in a file is ever run."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fpdm.files import read_json, sha256_of
from fpdm.hub import download, is_hub_id
from fpdm.tensors import check_weights

DIFFUSERS = ("DiTTransformer2DModel", "Transformer2DModel")  # the second name is in configurations from before 2024
_STEM = "diffusion_pytorch_model"
_FILES = (f"{_STEM}.safetensors", f"{_STEM}.bin")
_WRAPPERS = ("module.", "_orig_mod.")  # prefixes from data-parallel and compiled models


@dataclass(frozen=True)
class ForeignCheckpoint:
    """Foreign weights and the configuration stored with them.

    Attributes:
        name: Name or path that the user gave.
        file: File with the weights.
        sha256: SHA-256 of that file.
        tensors: Weights by their original names.
        args: Training arguments, if a training checkpoint has them.
        steps: Number of training steps; 0 if it is not known.
        config: Configuration of a diffusers model; empty if there is none.
        scheduler: Configuration of the scheduler of a diffusers pipeline; empty if there is none.
        id2label: Names of the classes by their numbers, as a diffusers pipeline has them; empty if there are none.
    """

    name: str
    file: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    args: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    id2label: Mapping[str, str] = field(default_factory=dict)


def read_foreign_checkpoint(name: str, weights: Literal["ema", "model"] = "ema") -> ForeignCheckpoint:
    """Read a foreign checkpoint.

    Args:
        name: A `.pt` or `.safetensors` file, a folder with a diffusers model or pipeline, or the hub id of one, which
            is downloaded.
        weights: Which weights of a training checkpoint to read: "ema", the averaged ones, or "model", the raw ones.

    Raises:
        ValueError: The checkpoint does not exist, cannot be read, or holds more than weights.
    """
    path = Path(name)
    if not path.exists():
        path = _downloaded(name)
    if path.is_dir():
        return _read_folder(name, path)
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; expected a .pt or .safetensors file, or a folder")
    if path.suffix == ".safetensors":
        return ForeignCheckpoint(name, path, sha256_of(path), _plain(path, _load_safetensors(path)))
    content = _load_torch(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} contains a {type(content).__name__}; expected weights by name, or a training checkpoint"
        )
    sets = [key for key in ("ema", "model") if isinstance(content.get(key), dict)]
    if not sets:
        return ForeignCheckpoint(name, path, sha256_of(path), _plain(path, content))
    if weights not in sets:
        raise ValueError(f"{path} has no {weights} weights; expected --weights {' or '.join(sets)}")
    args, steps = content.get("args", {}), content.get("train_steps", 0)
    return ForeignCheckpoint(
        name,
        path,
        sha256_of(path),
        _plain(path, content[weights]),
        vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, dict) else {},
        steps if isinstance(steps, int) and steps > 0 else 0,
    )


def _read_folder(name: str, folder: Path) -> ForeignCheckpoint:
    inner = folder / "transformer" if (folder / "transformer").is_dir() else folder
    path = inner / "config.json"
    try:
        config = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; expected a folder with a diffusers model or pipeline") from None
    if config.get("_class_name") not in DIFFUSERS:
        raise ValueError(
            f"{path} describes a {config.get('_class_name')}; expected {' or '.join(DIFFUSERS)} (a "
            "model of fpdm needs no import)"
        )
    file = next((inner / one for one in _FILES if (inner / one).is_file()), None)
    if file is None:
        raise ValueError(f"{inner} has no weights; expected a single file {' or '.join(_FILES)}")
    tensors = _load_safetensors(file) if file.suffix == ".safetensors" else _load_torch(file)
    scheduler, index = folder / "scheduler" / "scheduler_config.json", folder / "model_index.json"
    labels = read_json(index).get("id2label") if index.is_file() else None
    return ForeignCheckpoint(
        name,
        file,
        sha256_of(file),
        _plain(file, tensors),
        config=config,
        scheduler=read_json(scheduler) if scheduler.is_file() else {},
        id2label={str(key): str(name) for key, name in labels.items()} if isinstance(labels, dict) else {},
    )


def _load_torch(path: Path) -> Any:
    try:
        # DiT's checkpoints keep their arguments in a Namespace, which is plain data. Nothing else is allowed.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(  # noqa: TID251  # the one place where a foreign file is read, and as weights only
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except Exception as error:  # a broken file may raise anything
        message = " ".join(str(error).split())
        wanted = re.search(r"GLOBAL (\S+)", message)
        reason = "it is empty" if not path.stat().st_size else "it is not a PyTorch checkpoint"
        if wanted:
            reason = f"it contains {wanted[1]}, which is not a weight"
        elif zipfile.is_zipfile(path):
            reason = message[:120]
        raise ValueError(f"{path} cannot be read as weights only: {reason}; expected tensors by name") from error


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())[:120]}; download it again") from error


def _plain(path: Path, content: Any) -> dict[str, Tensor]:
    """Check that the content is named tensors, and remove the prefixes of wrappers from the names."""
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} contains no weights; expected tensors by name")
    strange = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise ValueError(f"{path} contains {strange[0]!r}, which is not a tensor; expected only tensors by name")
    other = [key for key, value in content.items() if value.layout is not torch.strided]
    if other:
        raise ValueError(f"{path}: {other[0]} is stored as {content[other[0]].layout}; expected dense tensors")
    check_weights(path, content)
    return {_unwrapped(key): value for key, value in content.items()}


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _downloaded(name: str) -> Path:
    if not is_hub_id(name):
        raise ValueError(f"{name} does not exist; expected a .pt or .safetensors file, a folder or a hub id")
    files = [f"{where}{file}" for where in ("", "transformer/") for file in ("config.json", *_FILES)]
    return download(name, [*files, "model_index.json", "scheduler/scheduler_config.json"])
