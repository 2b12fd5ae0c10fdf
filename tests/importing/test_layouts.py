"""A converted model computes what its source computes: the original code's networks, rebuilt, and diffusers' own."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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

pytestmark = pytest.mark.filterwarnings("ignore:.* does not say what it predicts")
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
    source = in_memory(foreign_checkpoints.dit(2))
    with pytest.raises(ValueError, match=r"\(width 24\) do not say how many heads it has; give --heads"):
        convert(source, Hints())
    with pytest.raises(ValueError, match="not divisible by both heads"):
        convert(source, Hints(heads=5))
    with pytest.raises(ValueError, match="a DiT always sees the timestep"):
        convert(source, replace(HEADS, timestep_everywhere=False))
    with pytest.raises(ValueError, match="'epsilon' at zero terminal SNR"):
        convert(source, replace(HEADS, zero_terminal_snr=True))


def test_narrow_weights_become_float32() -> None:
    weights = {name: value.bfloat16() for name, value in foreign_checkpoints.dit(2).items()}
    converted = convert(in_memory(weights), HEADS)
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


@pytest.mark.parametrize(
    "args",
    [
        {"model": "SiT-XL/2", "path_type": "Linear", "prediction": "velocity"},
        {"path_type": "linear", "prediction": "v", "weighting": "uniform"},  # REPA's, whose v is not ours
        {"path_type": "VP"},
        {"model": "SiT-S/2"},
        {"prediction": "velocity"},
        {"flow": True},
        {"proj_coeff": 0.5, "enc_type": "dinov2-vit-b"},
    ],
)
@pytest.mark.parametrize("kind", [foreign_checkpoints.namespace, dict])
def test_flow_matching_is_no_diffusion(tmp_path: Path, args: dict[str, Any], kind: Any) -> None:
    checkpoint = foreign_checkpoints.training_checkpoint(foreign_checkpoints.dit(3), kind(**args))
    path = foreign_checkpoints.save(tmp_path / "a.pt", checkpoint)
    for hints in (HEADS, replace(HEADS, prediction="v")):
        with pytest.raises(
            ValueError, match=r"a\.pt was trained by flow matching \(its .*\), which fpdm does not support"
        ):
            convert(read_foreign_checkpoint(str(path)), hints)


def test_a_raw_file_of_sits_is_known_by_its_name(tmp_path: Path) -> None:
    path = foreign_checkpoints.save(tmp_path / "SiT-XL-2-256x256.pt", foreign_checkpoints.dit(3))
    with pytest.raises(ValueError, match=r"trained by flow matching \(its name is SiT-XL-2-256x256.pt\)"):
        convert(read_foreign_checkpoint(str(path)), HEADS)
    path = path.rename(tmp_path / "transit-xl.pt")
    convert(read_foreign_checkpoint(str(path)), HEADS)


@pytest.mark.parametrize(
    ("scheduler", "says"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0}, "trained by flow matching"),
        ({"prediction_type": "flow_prediction"}, "trained by flow matching"),
        ({"prediction_type": "flow"}, "trained by flow matching"),
        ({"prediction_type": "epsilon", "use_flow_sigmas": True}, "trained by flow matching"),
        ({"prediction_type": "sample"}, "predicts 'sample'; expected epsilon or v_prediction"),
        ({"prediction_type": "x0"}, "predicts 'x0'; expected epsilon or v_prediction"),
        ({"prediction_type": "velocity"}, "trained by flow matching"),
    ],
)
def test_a_scheduler_of_another_kind_is_refused(tmp_path: Path, scheduler: dict[str, Any], says: str) -> None:
    foreign_checkpoints.diffusers_model().save_pretrained(tmp_path / "transformer")
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    with pytest.raises(ValueError, match=says):
        convert(read_foreign_checkpoint(str(tmp_path)), Hints())


def test_another_target_of_a_training_checkpoint_is_refused() -> None:
    for args in ({"prediction": "x0"}, {"prediction": "x_start"}, {"prediction": "score"}, {"predict_xstart": True}):
        with pytest.raises(ValueError, match=r"made predicts .*; expected epsilon or v_prediction"):
            convert(in_memory(foreign_checkpoints.dit(3), args=args), HEADS)


@pytest.mark.parametrize(
    ("weights", "assumed", "other"),
    [(foreign_checkpoints.dit(3), "epsilon", "v"), (foreign_checkpoints.fpdm(), "v", "epsilon")],
)
def test_what_is_assumed_is_said(weights: dict[str, Any], assumed: str, other: str) -> None:
    says = f"made does not say what it predicts: {assumed} is assumed; give --prediction if it is {other}"
    with pytest.warns(RuntimeWarning, match=says):
        assert convert(in_memory(weights), HEADS).schedule.prediction == assumed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert convert(in_memory(weights), replace(HEADS, prediction=other)).schedule.prediction == other
        assert convert(in_memory(weights, args={"predict_v": True}), HEADS).schedule.prediction == "v"
        assert convert(in_memory(weights, args={"prediction": "noise"}), HEADS).schedule.prediction == "epsilon"
