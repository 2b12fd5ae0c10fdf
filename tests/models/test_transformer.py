"""The transformer's forward pass equals the plain one in tests/oracle/network.py, all weights random and none zero."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fpdm.fixed_point.gradients import unrolled
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.transformer import DiffusionTransformer
from tests.models.random_models import Batch, random_batch, random_model, run
from tests.oracle import network

FPDM = TransformerConfig(image_size=6, in_channels=3, patch_size=2, width=16, heads=2, num_classes=5)
DIT = as_dit(FPDM, 4)
SIZES = {"s": (384, 6, 12), "b": (768, 12, 12), "l": (1024, 16, 24), "xl": (1152, 16, 28)}  # D, heads, blocks of DiT


def assert_equals_oracle(shape: TransformerConfig, dtype: torch.dtype, iterations: int = 3) -> None:
    model, batch = random_model(shape, dtype), random_batch(shape, dtype)
    got = run(model, batch, iterations)
    weights = model.state_dict()
    want = network.forward(weights, shape, batch.x, batch.t, batch.y, iterations=iterations)
    # Tight enough in float64 to tell a norm's eps of 1e-6 from one of 1e-5.
    tolerance = 1e-8 if dtype == torch.float64 else 1e-5
    close = functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    assert want.value.std() > 0.1  # else closeness says nothing
    close(got.value, want.value)
    close(got.solution.z, want.z)
    assert (got.variance is None) == (want.variance is None) == (not shape.learn_variance)
    if want.variance is not None:
        close(got.variance, want.variance)


VARIANTS = {
    "fpdm": FPDM,
    "dit": DIT,
    "timestep_everywhere": replace(FPDM, timestep_everywhere=True),
    "dit, outer blocks on the label only": replace(DIT, timestep_everywhere=False),
    "fixed variance": replace(FPDM, learn_variance=False),
    "dit, fixed variance": replace(DIT, learn_variance=False),
    "unconditional": replace(FPDM, num_classes=0),
    "dit, unconditional": replace(DIT, num_classes=0),
    "cell of two": replace(FPDM, middle_blocks=2),
    "cell of three": replace(FPDM, middle_blocks=3),
    "linear injection": replace(FPDM, injection="linear"),
    "linear injection, cell of two": replace(FPDM, injection="linear", middle_blocks=2, timestep_everywhere=True),
    "no pre": replace(FPDM, pre_blocks=0),
    "no post": replace(FPDM, post_blocks=0),
    "bare": replace(FPDM, pre_blocks=0, post_blocks=0),
    "two pre, two post": replace(FPDM, pre_blocks=2, post_blocks=2),
    "two pre, one post": replace(FPDM, pre_blocks=2),
    "dit, no outer blocks": replace(DIT, pre_blocks=0, post_blocks=0),
    "dit, no middle": replace(DIT, middle_blocks=0),
    "one shared block": as_dit(FPDM, 5, shared=True),
    "two blocks three times": replace(DIT, repeats=3),
    "frequency shift": replace(FPDM, frequency_shift=1.0),
    "norm eps": replace(FPDM, norm_eps=1e-2),
    "norm eps of the MLP": replace(FPDM, mlp_norm_eps=1e-2),
    "mlp ratio": replace(FPDM, mlp_ratio=2.5),
    "one token": replace(FPDM, patch_size=6),
    "patch of one": replace(FPDM, patch_size=1),
}


@pytest.mark.parametrize("shape", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_equals_the_oracle(shape: TransformerConfig) -> None:
    assert_equals_oracle(shape, torch.float64)


@pytest.mark.parametrize("shape", [FPDM, DIT], ids=["fpdm", "dit"])
def test_equals_the_oracle_in_float32(shape: TransformerConfig) -> None:
    assert_equals_oracle(shape, torch.float32)


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["fpdm", "dit"])
def test_every_preset_equals_the_oracle_at_small_width(kind: str, size: str, patch: int) -> None:
    shape = preset(f"{kind}-{size}/{patch}")
    width, heads, depth = SIZES[size]
    assert (shape.width, shape.heads, shape.patch_size) == (width, heads, patch)
    assert (shape.image_size, shape.in_channels, shape.num_classes, shape.learn_variance) == (32, 4, 1000, True)
    assert shape.pre_blocks == shape.post_blocks == 1
    assert shape.middle_blocks == (1 if kind == "fpdm" else depth - 2)
    assert shape.timestep_everywhere == (kind == "dit")
    small = replace(shape, width=heads * 2, image_size=2 * patch)
    assert_equals_oracle(small, torch.float64, iterations=5)


@pytest.mark.parametrize(("name", "size", "patch"), [("digits", 8, 2), ("fashion", 28, 7)])
def test_small_presets_have_16_tokens_and_28_blocks(name: str, size: int, patch: int) -> None:
    fpdm, dit = preset(f"fpdm-{name}"), preset(f"dit-{name}")
    for shape in (fpdm, dit):
        assert (shape.image_size, shape.patch_size, shape.in_channels, shape.tokens) == (size, patch, 1, 16)
        assert_equals_oracle(replace(shape, width=16), torch.float64)
    assert dit.pre_blocks + dit.middle_blocks + dit.post_blocks == 28


def test_no_labels_means_no_class() -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    null = replace(batch, y=torch.full((3,), FPDM.num_classes))
    assert torch.equal(run(model, replace(batch, y=None), 2).value, run(model, null, 2).value)
    assert not torch.allclose(run(model, replace(batch, y=None), 2).value[0], run(model, batch, 2).value[0])


@pytest.mark.parametrize("shape", [FPDM, DIT], ids=["fpdm", "dit"])
def test_without_a_solver_it_iterates_as_often_as_it_was_trained_to(shape: TransformerConfig, tmp_path: Path) -> None:
    trained, batch = random_model(shape, torch.float64), random_batch(shape, torch.float64)
    model = DiffusionTransformer.from_shape(shape, iterations=3).double()
    model.load_state_dict(trained.state_dict())
    model.save_pretrained(tmp_path)
    loaded = DiffusionTransformer.from_pretrained(tmp_path, torch_dtype=torch.float64)
    with torch.no_grad():
        for found in (model, loaded):
            prediction = found(batch.x, batch.t, batch.y)
            torch.testing.assert_close(prediction.value, run(trained, batch, 3).value, rtol=0, atol=1e-12)
            assert prediction.solution.iters == run(trained, batch, 3).solution.iters
    assert DiffusionTransformer.from_shape(shape).config["iterations"] == 5
    with pytest.raises(ValueError, match="iterations is 0; expected an integer of at least 1"):
        DiffusionTransformer.from_shape(shape, iterations=0)


def test_no_sample_sees_its_neighbours() -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    together = run(model, batch, 4).value  # (B, C, H, W)
    assert batch.y is not None
    for i in range(3):
        alone = run(model, Batch(batch.x[i : i + 1], batch.t[i : i + 1], batch.y[i : i + 1]), 4).value  # (1, C, H, W)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [FPDM, replace(FPDM, injection="linear"), DIT], ids=["mlp", "linear", "dit"])
def test_bfloat16_weights_take_and_return_the_images_type(shape: TransformerConfig) -> None:
    exact, batch = random_model(shape, torch.float32), random_batch(shape, torch.float32)
    narrow = random_model(shape, torch.float32).to(torch.bfloat16)
    got, want = run(narrow, batch, 2), run(exact, batch, 2)
    assert got.value.dtype == torch.float32
    assert got.variance is not None
    assert got.variance.dtype == torch.float32
    assert got.solution.z.dtype == torch.bfloat16
    # bfloat16 has 8 bits: about 1 % a layer.
    assert (got.value - want.value).norm() < 0.1 * want.value.norm()


FRESH = TransformerConfig(image_size=8, in_channels=2, width=32, heads=4, num_classes=5)


def fresh(shape: TransformerConfig) -> DiffusionTransformer:
    torch.manual_seed(0)
    return DiffusionTransformer.from_shape(shape)


@pytest.mark.parametrize(
    "shape", [FRESH, replace(FRESH, injection="linear"), as_dit(FRESH, 4)], ids=["mlp", "linear", "dit"]
)
def test_the_output_is_zero(shape: TransformerConfig) -> None:
    model = fresh(shape)
    prediction = model(
        torch.randn(2, 2, 8, 8), torch.tensor([1, 999]), torch.tensor([0, 5]), solver=unrolled(2).bind(0, 0)
    )
    assert not prediction.value.any()
    assert not prediction.variance.any()
    assert prediction.solution.z.abs().min() > 0


def test_what_learns_first() -> None:
    model = fresh(FRESH)
    torch.nn.init.normal_(model.head.linear.weight)
    prediction = model(
        torch.randn(2, 2, 8, 8), torch.tensor([1, 999]), torch.tensor([0, 4]), solver=unrolled(2).bind(0, 0)
    )
    (prediction.value.square().sum() + prediction.variance.square().sum()).backward()
    # The insides of a block wait for adaLN to open its gates, and so does the conditioning.
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    expected = {
        name for name, _ in model.named_parameters() if "adaLN" in name or "injection" in name or "x_embedder" in name
    }
    assert expected <= learning
    assert any(name.startswith("pre.0.adaLN") for name in expected)


def test_initial_distributions() -> None:
    model = fresh(replace(FRESH, width=128, image_size=8, num_classes=500))
    for name, p in model.named_parameters():
        values = p.detach()
        if "adaLN" in name or "head.linear" in name or name.endswith("bias"):
            assert not values.any(), name
        elif "t_embedder" in name or "y_embedder" in name:
            assert values.std().item() == pytest.approx(0.02, rel=0.05), name
        else:  # Xavier: uniform with variance 2 / (fan_in + fan_out)
            matrix = values.flatten(1)
            bound = (6 / sum(matrix.shape)) ** 0.5
            assert matrix.abs().max().item() <= bound, name
            assert matrix.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name


def test_weights_that_are_taken_are_copies_in_float32() -> None:
    whole = random_model(FPDM, torch.float32)
    weights = {name: value.half() for name, value in whole.state_dict().items()}
    model = DiffusionTransformer.without_weights(FPDM)
    assert all(parameter.is_meta for parameter in model.parameters())
    model.take_weights(weights)
    assert torch.equal(model.positions, whole.positions)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, weights[name].float())
    weights["head.linear.bias"].add_(1)
    assert not torch.equal(dict(model.named_parameters())["head.linear.bias"], weights["head.linear.bias"].float())
