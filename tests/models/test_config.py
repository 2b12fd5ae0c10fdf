"""Presets, mistakes in a configuration, saving and loading."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig, as_dit, kind_of, preset
from fpdm.models.transformer import DiffusionTransformer
from tests.oracle import network

SMALL = TransformerConfig(
    image_size=8, in_channels=1, patch_size=4, width=24, heads=3, pre_blocks=2, post_blocks=1, middle_blocks=2,
    injection="linear", num_classes=3, timestep_everywhere=True, learn_variance=False, mlp_ratio=3.0,
    frequency_shift=1.0, norm_eps=1e-5,
)  # fmt: skip
SOLVER = functools.partial(solve, solver=Picard(), stop=Stop(3))


def predict(model: DiffusionTransformer) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 8, 8, generator=generator)  # (B, C, H, W)
    with torch.no_grad():
        return model(x, torch.tensor([3, 999]), torch.tensor([0, 3]), solver=SOLVER).value  # (B, C, H, W)


def random_model(shape: TransformerConfig) -> DiffusionTransformer:
    model = DiffusionTransformer.from_shape(shape)
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(network.random_weights(sizes, seed=0, dtype=torch.float32))
    return model


def test_the_default_is_the_papers_model() -> None:
    assert preset("fpdm-xl/2") == TransformerConfig()


def test_fpdm_and_dit_differ_in_the_middle_only() -> None:
    fpdm, dit = asdict(preset("fpdm-l/4")), asdict(preset("dit-l/4"))
    differing = {name for name in fpdm if fpdm[name] != dit[name]}
    assert differing == {"middle_kind", "middle_blocks", "timestep_everywhere"}


def test_what_a_network_is_can_be_told_from_its_values() -> None:
    shape = TransformerConfig()
    assert kind_of(asdict(shape)) == "fpdm"
    assert kind_of(asdict(as_dit(shape, 4))) == "dit"
    assert kind_of(asdict(as_dit(shape, 4, shared=True))) == kind_of({}) == "other"


def test_shared_weights_keep_the_depth() -> None:
    shape, shared = as_dit(SMALL, 10), as_dit(SMALL, 10, shared=True)
    assert (shape.middle_blocks, shape.repeats, shared.middle_blocks, shared.repeats) == (7, 1, 1, 7)
    assert replace(shared, middle_blocks=7, repeats=1) == shape


def test_preset_names_ignore_case() -> None:
    assert preset("DiT-XL/2") == preset("dit-xl/2")


@pytest.mark.parametrize(
    "name", ["", "fpdm", "xl/2", "fpdm-xl", "fpdm-xl/3", "dit-xxl/2", "unet-b/4", "fpdm-mnist", "fpdm-xl/2 "]
)
def test_an_unknown_preset_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="expected fpdm- or dit-") as error:
        preset(name)
    assert repr(name) in str(error.value)


def test_too_shallow_a_dit_is_refused() -> None:
    with pytest.raises(ValueError, match="a DiT of 2 blocks is too shallow; expected at least 3"):
        as_dit(SMALL, 2)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"image_size": 0}, "image_size is 0"),
    ({"image_size": 8.0}, r"image_size is 8\.0"),
    ({"image_size": "8"}, "image_size is '8'"),
    ({"in_channels": 0}, "in_channels is 0"),
    ({"patch_size": -2}, "patch_size is -2"),
    ({"patch_size": 3}, "image_size 8 is not divisible by patch_size 3"),
    ({"width": 0}, "width is 0"),
    ({"width": 25}, r"width 25 is not divisible by both heads \(3\) and 4"),
    ({"width": 30}, r"width 30 is not divisible by both heads \(3\) and 4"),
    ({"heads": 0}, "heads is 0"),
    ({"heads": 5}, r"width 24 is not divisible by both heads \(5\)"),
    ({"pre_blocks": -1}, "pre_blocks is -1"),
    ({"post_blocks": -1}, "post_blocks is -1"),
    ({"middle_blocks": 0}, "middle_blocks is 0"),
    ({"repeats": 0}, "repeats is 0"),
    ({"repeats": 2}, "repeats is 2; a fixed point is iterated as often as it is asked"),
    ({"middle_kind": "unet"}, "middle_kind is 'unet'; expected 'fixed_point'"),
    ({"injection": "conv"}, "injection is 'conv'; expected one of"),
    ({"num_classes": -1}, "num_classes is -1"),
    ({"mlp_ratio": 0.0}, r"mlp_ratio is 0\.0"),
    ({"mlp_ratio": float("nan")}, "mlp_ratio is nan"),
    ({"mlp_ratio": float("inf")}, "mlp_ratio is inf"),
    ({"norm_eps": 0.0}, r"norm_eps is 0\.0"),
    ({"frequency_shift": 2.0}, r"frequency_shift is 2\.0"),
]


@pytest.mark.parametrize(("fields", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_a_value_error_that_names_the_value(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **fields)
    # The model's own constructor, which a config.json goes through, checks the same.
    with pytest.raises(ValueError, match=message):
        DiffusionTransformer(**(asdict(SMALL) | fields))


@pytest.mark.parametrize("shape", [SMALL, as_dit(SMALL, 5, shared=True)], ids=["fpdm", "dit"])
def test_saved_and_loaded_gives_equal_outputs(shape: TransformerConfig, tmp_path: Path) -> None:
    model = random_model(shape)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    saved = json.loads((tmp_path / "config.json").read_text())
    assert {name: saved[name] for name in asdict(shape)} == asdict(shape)
    loaded = DiffusionTransformer.from_pretrained(tmp_path)
    assert loaded.shape == shape
    assert "positions" not in loaded.state_dict()  # not saved, yet there:
    assert torch.equal(loaded.positions, model.positions)
    assert torch.equal(predict(loaded), predict(model))


def test_loading_in_bfloat16(tmp_path: Path) -> None:
    model = random_model(SMALL)
    model.save_pretrained(tmp_path)
    loaded = DiffusionTransformer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    got, want = predict(loaded), predict(model)  # (B, C, H, W)
    assert got.dtype == torch.float32
    assert (got - want).norm() < 0.1 * want.norm()
