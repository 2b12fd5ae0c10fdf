"""An imported model computes what its source computes: the original code's networks, rebuilt, and diffusers' own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.importing.foreign import ForeignCheckpoint, read_foreign_checkpoint
from fpdm.importing.layouts import Converted, Hints, convert
from fpdm.models.transformer import DiffusionTransformer
from tests.importing import foreign_checkpoints
from tests.oracle import authors

HEADS = Hints(heads=3)
ITERATIONS = 4


def in_memory(weights: Mapping[str, Tensor], **more: object) -> ForeignCheckpoint:
    return ForeignCheckpoint("made", Path("foreign_checkpoints.pt"), "0" * 64, weights, **more)  # type: ignore[arg-type]


def inputs(size: authors.Size, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, size.channels, size.side, size.side, generator=generator, dtype=dtype)  # (B, C, H, W)
    return x, torch.tensor([0, 999, 400]), torch.tensor([0, size.classes, 2])  # (B,) each


def ours(converted: Converted, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    """The output of our model, value and variance as one: (B, C or 2C, H, W)."""
    model = DiffusionTransformer.from_shape(converted.shape).to(x.dtype)
    model.load_state_dict({name: value.to(x.dtype) for name, value in converted.weights.items()})
    solver = functools.partial(solve, solver=Picard(), stop=Stop(ITERATIONS))
    with torch.no_grad():
        got = model(x, t, y, solver=solver)
    return got.value if got.variance is None else torch.cat([got.value, got.variance], dim=1)


def in_float64(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in weights.items()}


def assert_same(got: Tensor, want: Tensor, tolerance: float = 1e-8) -> None:
    assert want.std() > 0.1  # else closeness says nothing
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_dit(depth: int) -> None:
    weights = foreign_checkpoints.dit(depth)
    x, t, y = inputs(foreign_checkpoints.SIZE)
    converted = convert(in_memory(weights), HEADS)
    assert converted.schedule.prediction == "epsilon"
    assert not converted.schedule.zero_terminal_snr
    assert_same(ours(converted, x, t, y), authors.dit(in_float64(weights), foreign_checkpoints.SIZE, depth, x, t, y))


@pytest.mark.parametrize(("pre", "post"), [(1, 1), (2, 1), (0, 3), (12, 0)])
@pytest.mark.parametrize("outside", [False, True])
def test_fpdm(pre: int, post: int, outside: bool) -> None:
    weights = foreign_checkpoints.fpdm(pre, post)
    x, t, y = inputs(foreign_checkpoints.SIZE)
    converted = convert(in_memory(weights), replace(HEADS, timestep_everywhere=outside))
    assert converted.schedule.prediction == "v"
    assert converted.schedule.zero_terminal_snr
    want = authors.fpdm(
        in_float64(weights),
        foreign_checkpoints.SIZE,
        pre,
        post,
        x,
        t,
        y,
        iterations=ITERATIONS,
        timestep_outside=outside,
    )
    assert_same(ours(converted, x, t, y), want)


@pytest.mark.parametrize(
    "size",
    [
        replace(foreign_checkpoints.SIZE, out=4),
        replace(foreign_checkpoints.SIZE, channels=1, out=1, patch=4),
        replace(foreign_checkpoints.SIZE, mlp=36),
        replace(foreign_checkpoints.SIZE, classes=1, patch=1),
    ],
    ids=["fixed variance", "pixels", "narrow MLP", "one class"],
)
def test_shapes_are_read_off_the_weights(size: authors.Size) -> None:
    x, t, _ = inputs(size)
    y = torch.tensor([0, size.classes, 0])  # (B,)
    weights = foreign_checkpoints.fpdm(size=size)
    want = authors.fpdm(in_float64(weights), size, 1, 1, x, t, y, iterations=ITERATIONS)
    assert_same(ours(convert(in_memory(weights), HEADS), x, t, y), want)


def test_what_a_checkpoint_says_of_itself() -> None:
    said = {"fixed_point_pre_post_timestep_conditioning": True, "predict_v": True, "use_zero_terminal_snr": False}
    converted = convert(in_memory(foreign_checkpoints.fpdm(), args=said), HEADS)
    assert converted.shape.timestep_everywhere
    assert (converted.schedule.prediction, converted.schedule.zero_terminal_snr) == ("v", False)
    with pytest.raises(ValueError, match="prediction is epsilon, but the checkpoint says v; leave --prediction out"):
        convert(in_memory(foreign_checkpoints.fpdm(), args=said), replace(HEADS, prediction="epsilon"))
    with pytest.raises(ValueError, match="flow matching"):
        convert(in_memory(foreign_checkpoints.fpdm(), args={"flow": True}), HEADS)


def test_unsupervised_training_knows_one_row_only() -> None:
    size = replace(foreign_checkpoints.SIZE, classes=1)
    weights = foreign_checkpoints.fpdm(size=size)
    converted = convert(in_memory(weights, args={"unsupervised": True}), HEADS)
    assert converted.shape.num_classes == 0
    x, t, _ = inputs(size)
    want = authors.fpdm(in_float64(weights), size, 1, 1, x, t, torch.zeros(3, dtype=torch.long), iterations=ITERATIONS)
    assert_same(ours(converted, x, t, None), want)


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("name", ["DiTTransformer2DModel", "Transformer2DModel"])
def test_diffusers(tmp_path: Path, name: str, pipeline: bool) -> None:
    model = foreign_checkpoints.diffusers_model()
    folder = tmp_path / "transformer" if pipeline else tmp_path
    model.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("DiTTransformer2DModel", name))
    converted = convert(read_foreign_checkpoint(str(tmp_path)), Hints())
    shape = converted.shape
    assert (shape.frequency_shift, shape.norm_eps, shape.mlp_norm_eps) == (1.0, 1e-6, 1e-5)
    x, t, y = inputs(foreign_checkpoints.SIZE)
    with torch.no_grad():
        want = model.double()(x, timestep=t, class_labels=y).sample  # (B, 2C, H, W)
    # Both compute the sinusoids in float32, and the rest in float64.
    assert_same(ours(converted, x, t, y), want, 1e-5)
    tight = ours(converted, x, t, y)
    assert (tight - want).abs().max() < 1e-5
    # With DiT's own frequencies it is another model.
    other = replace(converted, shape=replace(converted.shape, frequency_shift=0.0))
    assert (ours(other, x, t, y) - want).abs().max() > 1e-2
    # The eps of the second norm shows in float64 alone.
    other = replace(converted, shape=replace(converted.shape, mlp_norm_eps=0.0))
    assert (ours(other, x, t, y) - want).abs().max() > 10 * (tight - want).abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fpdm", "dit"])
def test_the_full_shape_of_xl_2(kind: str) -> None:
    size = authors.Size(width=1152, heads=16, patch=2, side=32, channels=4, out=8, classes=1000, mlp=4608)
    weights = foreign_checkpoints.fpdm(size=size) if kind == "fpdm" else foreign_checkpoints.dit(28, size)
    converted = convert(in_memory(weights), Hints())
    assert sum(value.numel() for value in converted.weights.values()) == {"fpdm": 86_500_256, "dit": 674_834_720}[kind]
    x, t, y = (tensor[:1] for tensor in inputs(size, torch.float32))
    t[:] = 400
    if kind == "fpdm":
        want = authors.fpdm(weights, size, 1, 1, x, t, y, iterations=ITERATIONS)
    else:
        want = authors.dit(weights, size, 28, x, t, y)
    scale = float(want.std())
    assert scale > 0.1
    assert (ours(converted, x, t, y) - want).abs().max() < 1e-5 * max(scale, 1.0) * 28**0.5
