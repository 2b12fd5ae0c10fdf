"""The transformer's forward pass equals the plain one in tests/oracle/network.py, all weights random and none zero."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.embeddings import sincos_positions, sinusoids
from fpdm.models.transformer import DiffusionTransformer, Prediction
from tests.oracle import network

FPDM = TransformerConfig(image_size=6, in_channels=3, patch_size=2, width=16, heads=2, num_classes=5)
DIT = as_dit(FPDM, 4)
SIZES = {"s": (384, 6, 12), "b": (768, 12, 12), "l": (1024, 16, 24), "xl": (1152, 16, 28)}  # D, heads, blocks of DiT


@dataclass(frozen=True)
class Batch:
    x: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    y: Tensor | None  # (B,)


def random_model(shape: TransformerConfig, dtype: torch.dtype, seed: int = 0) -> DiffusionTransformer:
    model = DiffusionTransformer.from_shape(shape).to(dtype)
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(network.random_weights(sizes, seed=seed, dtype=dtype))
    return model


def random_batch(shape: TransformerConfig, dtype: torch.dtype) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(
        3, shape.in_channels, shape.image_size, shape.image_size, generator=generator, dtype=dtype
    )  # (B, C, H, W)
    # Both ends of the timesteps, and the "no class" row.
    y = torch.tensor([0, shape.num_classes, shape.num_classes // 2])  # (B,)
    return Batch(x, torch.tensor([0, 999, 421]), y if shape.num_classes else None)


def run(model: DiffusionTransformer, batch: Batch, iterations: int, z0: Tensor | None = None) -> Prediction:
    solver = functools.partial(solve, solver=Picard(), stop=Stop(iterations))
    with torch.no_grad():
        return model(batch.x, batch.t, batch.y, solver=solver, z0=z0)


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


@pytest.mark.parametrize("iterations", [0, 1, 2, 9])
def test_any_number_of_iterations_from_any_start(iterations: int) -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    z0 = torch.randn(3, FPDM.tokens, FPDM.width, dtype=torch.float64)  # (B, T, D)
    got = run(model, batch, iterations, z0)
    want = network.forward(model.state_dict(), FPDM, batch.x, batch.t, batch.y, iterations=iterations, z0=z0)
    torch.testing.assert_close(got.value, want.value, rtol=1e-8, atol=1e-8)
    assert got.solution.iters == iterations


def test_continuing_from_a_solution_equals_going_on() -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    first = run(model, batch, 2)
    torch.testing.assert_close(run(model, batch, 3, first.solution.z).value, run(model, batch, 5).value)


def test_a_stack_ignores_start_and_solver() -> None:
    model, batch = random_model(DIT, torch.float64), random_batch(DIT, torch.float64)
    one, other = run(model, batch, 1), run(model, batch, 7, torch.randn(3, DIT.tokens, DIT.width, dtype=torch.float64))
    assert torch.equal(one.value, other.value)
    assert one.solution.iters == other.solution.iters == 2


def test_a_start_of_another_shape_is_refused() -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    with pytest.raises(ValueError, match=r"z0 has shape \(1, 9, 16\); expected \(3, 9, 16\)"):
        run(model, batch, 1, torch.zeros(1, 9, 16, dtype=torch.float64))


def test_no_labels_means_no_class() -> None:
    model, batch = random_model(FPDM, torch.float64), random_batch(FPDM, torch.float64)
    null = replace(batch, y=torch.full((3,), FPDM.num_classes))
    assert torch.equal(run(model, replace(batch, y=None), 2).value, run(model, null, 2).value)
    assert not torch.allclose(run(model, replace(batch, y=None), 2).value[0], run(model, batch, 2).value[0])


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


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_sinusoids_equal_their_formula(shift: float) -> None:
    t = torch.tensor([0.0, 0.5, 1.0, 37.0, 999.0])  # (B,)
    got = sinusoids(t, 8, shift)  # (B, 8)
    for row, time in zip(got.tolist(), t.tolist(), strict=True):
        angles = [time * 10000 ** (-i / (4 - shift)) for i in range(4)]
        want = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        assert row == pytest.approx(want, abs=1e-4)  # float32's width near 999


def test_positions_equal_their_formula() -> None:
    torch.testing.assert_close(sincos_positions(24, 5), network.positions(24, 5), rtol=0, atol=1e-7)
    # In the first half of the width, moving down a row changes nothing.
    grid = sincos_positions(24, 5).view(5, 5, 24)  # (rows, columns, D)
    assert torch.equal(grid[0, :, :12], grid[4, :, :12])
    assert not torch.equal(grid[0, :, 12:], grid[4, :, 12:])


@pytest.mark.parametrize("shape", [FPDM, replace(FPDM, injection="linear", middle_blocks=2)])
def test_under_autocast_the_iterates_stay_float32_as_a_stacks_hidden_state_does(shape: TransformerConfig) -> None:
    batch = random_batch(shape, torch.float32)
    for one in (shape, as_dit(shape, 4)):
        model = random_model(one, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            solution = run(model, batch, 2).solution
        assert solution.z.dtype == torch.float32
