"""Foreign files: what is read of them, and what is refused, in one line and without running it."""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fpdm.importing.foreign import read_foreign_checkpoint
from fpdm.importing.layouts import Hints, convert
from tests.importing import foreign_checkpoints

HEADS = Hints(heads=3)


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["args", "model", "bare"])
def test_a_malicious_file_is_refused_without_running_it(tmp_path: Path, place: str, legacy: bool) -> None:
    evil, trace = Evil(tmp_path / "trace"), tmp_path / "trace"
    content: Any = (
        evil
        if place == "bare"
        else {**foreign_checkpoints.training_checkpoint(foreign_checkpoints.dit(1), {}), place: evil}
    )
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)  # noqa: TID251
    with pytest.raises(ValueError, match=r"a.pt cannot be read as weights only: it contains \S*open") as error:
        read_foreign_checkpoint(str(tmp_path / "a.pt"))
    assert "\n" not in str(error.value)
    assert not trace.exists()
    torch.load(tmp_path / "a.pt", weights_only=False)  # noqa: TID251
    assert trace.exists()  # it does what it was made for


def test_a_training_checkpoint_has_two_sets_of_weights(tmp_path: Path) -> None:
    args = foreign_checkpoints.namespace(model="DiT-S/2", vae="mse", lr=1e-4)
    path = foreign_checkpoints.save(
        tmp_path / "0007000.pt", foreign_checkpoints.training_checkpoint(foreign_checkpoints.dit(2), args)
    )
    averaged, raw = read_foreign_checkpoint(str(path)), read_foreign_checkpoint(str(path), "model")
    assert (averaged.steps, averaged.args["vae"]) == (7000, "mse")
    name = "blocks.1.attn.qkv.weight"
    assert torch.equal(raw.tensors[name], 2 * averaged.tensors[name])
    assert torch.equal(averaged.tensors[name], foreign_checkpoints.dit(2)[name])
    half = foreign_checkpoints.save(tmp_path / "half.pt", {"model": foreign_checkpoints.dit(2)})
    with pytest.raises(ValueError, match="no ema weights; expected --weights model"):
        read_foreign_checkpoint(str(half))
    assert read_foreign_checkpoint(str(half), "model").tensors.keys() == averaged.tensors.keys()


def test_an_object_other_than_a_namespace_is_refused(tmp_path: Path) -> None:
    path = foreign_checkpoints.save(
        tmp_path / "a.pt",
        foreign_checkpoints.training_checkpoint(
            foreign_checkpoints.dit(1), foreign_checkpoints.namespace(where=Path("x"))
        ),
    )
    with pytest.raises(ValueError, match="it contains pathlib"):
        read_foreign_checkpoint(str(path))
    # What is let in while reading is not let in afterwards.
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_all_forms_of_a_file_are_the_same(tmp_path: Path) -> None:
    weights = foreign_checkpoints.dit(2)
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "a.safetensors")
    foreign_checkpoints.save(tmp_path / "bare.pt", OrderedDict(weights))
    foreign_checkpoints.save(
        tmp_path / "wrapped.pt", {f"module._orig_mod.{name}": value for name, value in weights.items()}
    )
    torch.save(weights, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)  # noqa: TID251
    for name in ("a.safetensors", "bare.pt", "wrapped.pt", "legacy.pt"):
        tensors = read_foreign_checkpoint(str(tmp_path / name)).tensors
        assert tensors.keys() == weights.keys()
        assert all(torch.equal(tensors[key], weights[key]) for key in weights)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.pt", b"", "cannot be read as weights only"),
        ("text.pt", b"no checkpoint", "cannot be read as weights only"),
        ("empty.safetensors", b"", "cannot be read"),
        ("header.safetensors", (2**62).to_bytes(8, "little") + b"{}", "cannot be read"),
        ("cut.safetensors", (500).to_bytes(8, "little") + b'{"a"', "cannot be read"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        read_foreign_checkpoint(str(tmp_path / name))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    path = foreign_checkpoints.save(tmp_path / "a.pt", foreign_checkpoints.dit(1))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match="cannot be read as weights only"):
        read_foreign_checkpoint(str(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "contains a list; expected weights by name"),
        ({}, "contains no weights"),
        ({"a": 3}, "contains 'a', which is not a tensor"),
        ({"a": torch.zeros(1)}, "is neither a DiT nor an FPDM"),
    ],
)
def test_files_with_other_things(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        convert(read_foreign_checkpoint(str(foreign_checkpoints.save(tmp_path / "a.pt", content))), HEADS)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_foreign_checkpoint(str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match=r"models/none.pt does not exist"):
        read_foreign_checkpoint("models/none.pt")
    with pytest.raises(ValueError, match=r"config.json is missing"):
        read_foreign_checkpoint(str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "DiTTransformer2DModel"}')
    with pytest.raises(ValueError, match="has no weights; expected"):
        read_foreign_checkpoint(str(tmp_path))


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pt")
    with pytest.raises(ValueError, match="not a regular file"):
        read_foreign_checkpoint(str(tmp_path / "fifo.pt"))


def test_sparse_weights_are_refused(tmp_path: Path) -> None:
    weights = {**foreign_checkpoints.dit(1), "blocks.0.attn.proj.weight": torch.zeros(24, 24).to_sparse()}
    with pytest.raises(ValueError, match=r"blocks.0.attn.proj.weight is stored as torch.sparse_coo"):
        read_foreign_checkpoint(str(foreign_checkpoints.save(tmp_path / "a.pt", weights)))
