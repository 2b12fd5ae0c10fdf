"""Foreign files: what is read of them, and what is refused, in one line and without running it."""

from __future__ import annotations

import argparse
import json
import os
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fpdm.importing.foreign import ForeignCheckpoint, read_foreign_checkpoint
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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocks.1.mlp.fc2.bias": None}, "blocks.1.mlp.fc2.bias is missing"),
        ({"blocks.1.norm3.weight": torch.zeros(24)}, "blocks.1.norm3.weight is unknown"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(48, 24)}, "blocks.0.attn.qkv.weight is 48 x 24, expected 72 x 24"),
        ({"blocks.0.attn.qkv.bias": torch.full((72,), torch.nan)}, "blocks.0.attn.qkv.bias is NaN or inf"),
        ({"x_embedder.proj.weight": None}, "x_embedder.proj.weight is missing"),
        ({"x_embedder.proj.weight": torch.zeros(24)}, "x_embedder.proj.weight is 24"),
        ({"final_layer.linear.weight": torch.zeros(30, 24)}, "returns 30 values per token; expected 16, or 32"),
        ({"pos_embed": None}, "pos_embed is missing"),
        ({"pos_embed": torch.zeros(1, 16, 24)}, "not the fixed sine-cosine table"),
        ({"pos_embed": torch.zeros(())}, "no positions"),
        ({"blocks.9999.attn.qkv.weight": torch.zeros(72, 24)}, r"blocks.2.attn.qkv.weight is missing.*in all"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    weights = {name: value for name, value in {**foreign_checkpoints.dit(2), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=says) as error:
        convert(read_foreign_checkpoint(str(foreign_checkpoints.save(tmp_path / "a.pt", weights))), HEADS)
    assert "\n" not in str(error.value)
    assert "a.pt" in str(error.value)


def test_an_fpdm_that_lacks_its_injection(tmp_path: Path) -> None:
    weights = foreign_checkpoints.fpdm()
    del weights["block_fixed_point_projection_fc2.weight"]
    with pytest.raises(ValueError, match=r"does not fit the authors' FPDM: block_fixed_point_projection_fc2.weight is"):
        convert(read_foreign_checkpoint(str(foreign_checkpoints.save(tmp_path / "a.pt", weights))), HEADS)


def test_heads_must_be_said_where_the_width_does_not() -> None:
    source = read_from_memory(foreign_checkpoints.dit(2))
    with pytest.raises(ValueError, match=r"\(width 24\) do not say how many heads it has; give --heads"):
        convert(source, Hints())
    with pytest.raises(ValueError, match="not divisible by both heads"):
        convert(source, Hints(heads=5))
    with pytest.raises(ValueError, match="a DiT always sees the timestep"):
        convert(source, replace(HEADS, timestep_everywhere=False))
    with pytest.raises(ValueError, match="'epsilon' at zero terminal SNR"):
        convert(source, replace(HEADS, zero_terminal_snr=True))


def read_from_memory(weights: dict[str, torch.Tensor]) -> ForeignCheckpoint:
    return ForeignCheckpoint("made", Path("foreign_checkpoints.pt"), "", weights)


def test_narrow_weights_become_float32() -> None:
    weights = {name: value.bfloat16() for name, value in foreign_checkpoints.dit(2).items()}
    converted = convert(read_from_memory(weights), HEADS)
    assert {value.dtype for value in converted.weights.values()} == {torch.float32}
    assert "The weights were converted from bfloat16 to float32." in converted.notes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"activation_fn": "geglu"}, "activation_fn 'geglu', not 'gelu-approximate'"),
        ({"norm_type": "ada_norm"}, "norm_type 'ada_norm'"),
        ({"_class_name": "UNet2DModel"}, "describes a UNet2DModel; expected DiTTransformer2DModel"),
        ({"num_attention_heads": 5}, "attention_head_dim 8, not 4.8"),
    ],
)
def test_other_models_of_diffusers(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    foreign_checkpoints.diffusers_model().save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ValueError, match=says):
        convert(read_foreign_checkpoint(str(tmp_path)), Hints())


def test_blocks_with_embedders_of_their_own_are_refused(tmp_path: Path) -> None:
    model = foreign_checkpoints.diffusers_model()
    with torch.no_grad():
        model.transformer_blocks[2].norm1.emb.timestep_embedder.linear_2.bias[3] += 1e-6
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"blocks.2.norm1.emb.timestep_embedder.linear_2.bias differs from"):
        convert(read_foreign_checkpoint(str(tmp_path)), Hints())


def test_a_pipelines_schedule(tmp_path: Path) -> None:
    foreign_checkpoints.diffusers_model().save_pretrained(tmp_path / "transformer")
    scheduler = tmp_path / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir()
    scheduler.write_text('{"beta_start": 0.001, "beta_end": 0.01, "prediction_type": "v_prediction"}')
    schedule = convert(read_foreign_checkpoint(str(tmp_path)), Hints()).schedule
    assert (schedule.beta_start, schedule.beta_end, schedule.prediction) == (0.001, 0.01, "v")
    for text, says in (
        ('{"beta_schedule": "scaled_linear"}', "not linear"),
        ('{"prediction_type": "sample"}', "'sample'"),
    ):
        scheduler.write_text(text)
        with pytest.raises(ValueError, match=says):
            convert(read_foreign_checkpoint(str(tmp_path)), Hints())


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


@pytest.mark.parametrize(
    ("weights", "args", "says"),
    [
        (
            foreign_checkpoints.dit(3),
            {"model": "DiT-S/2"},
            r"3 blocks, not 12; width and patch size \(24, 2\), not \(384, 2\)",
        ),
        (
            foreign_checkpoints.fpdm(2, 1),
            {"fixed_point_pre_depth": 2, "fixed_point_post_depth": 2},
            "1 post blocks, not 2",
        ),
    ],
)
def test_a_checkpoint_that_has_lost_blocks_is_refused(
    tmp_path: Path, weights: dict[str, Any], args: dict[str, Any], says: str
) -> None:
    path = foreign_checkpoints.save(
        tmp_path / "a.pt", foreign_checkpoints.training_checkpoint(weights, foreign_checkpoints.namespace(**args))
    )
    with pytest.raises(ValueError, match=says):
        convert(read_foreign_checkpoint(str(path)), HEADS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_layers": 4}, "num_layers 4, not 3"),
        ({"num_attention_heads": 6}, "attention_head_dim 8, not 4"),
        ({"num_embeds_ada_norm": 9}, "num_embeds_ada_norm 9, not 5"),
        ({"norm_eps": None}, "cannot be used"),
        ({"num_attention_heads": 0}, "cannot be used"),
    ],
)
def test_a_configuration_that_does_not_fit_its_weights_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    foreign_checkpoints.diffusers_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    convert(read_foreign_checkpoint(str(tmp_path)), Hints())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=says):
        convert(read_foreign_checkpoint(str(tmp_path)), Hints())
