"""Parameters against closed formulas, MACs against torch's flop counter, block passes against footnote 4."""

from __future__ import annotations

import functools
import gc
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fpdm.fixed_point.gradients import unrolled
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.transformer import DiffusionTransformer
from fpdm.training.memory import saved_bytes
from tests.allocated import Peak

FPDM = TransformerConfig(image_size=8, in_channels=3, width=24, heads=3, num_classes=7)
SHAPES = {
    "fpdm": FPDM,
    "dit": as_dit(FPDM, 5),
    "one shared block": as_dit(FPDM, 6, shared=True),
    "two blocks three times": replace(as_dit(FPDM, 4), repeats=3),
    "linear": replace(FPDM, injection="linear"),
    "cell of two": replace(FPDM, middle_blocks=2),
    "linear, cell of three": replace(FPDM, injection="linear", middle_blocks=3, pre_blocks=2, post_blocks=0),
    "unconditional, fixed variance": replace(FPDM, num_classes=0, learn_variance=False, patch_size=4),
    "bare": replace(FPDM, pre_blocks=0, post_blocks=0, timestep_everywhere=True),
}


def on_meta(shape: TransformerConfig) -> DiffusionTransformer:
    with torch.device("meta"):
        return DiffusionTransformer.from_shape(shape)


@pytest.mark.parametrize(("name", "count"), [("fpdm-xl/2", 86_500_256), ("dit-xl/2", 674_834_720)])
def test_the_papers_parameter_counts(name: str, count: int) -> None:
    model = on_meta(preset(name))
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.cost().total_parameters == count


def test_fpdm_has_87_percent_fewer_parameters() -> None:
    fpdm, dit = (on_meta(preset(f"{kind}-xl/2")).cost().total_parameters for kind in ("fpdm", "dit"))
    assert round(100 * (1 - fpdm / dit), 2) == 87.18


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_parameters_equal_the_closed_formulas(shape: TransformerConfig) -> None:
    d, p, c = shape.width, shape.patch_size, shape.in_channels
    channels = 2 * c if shape.learn_variance else c
    block = 18 * d**2 + 15 * d
    injection = {"mlp": 7 * d**2 + 4 * d, "linear": 2 * d**2 + d}[shape.injection]
    assert on_meta(shape).cost().parameters == {
        "embed": p**2 * c * d + d,
        "conditioning": 256 * d + d**2 + 2 * d + (shape.num_classes + 1) * d,
        "pre": shape.pre_blocks * block,
        "middle": shape.middle_blocks * block + (injection if shape.middle_kind == "fixed_point" else 0),
        "post": shape.post_blocks * block,
        "head": 2 * d**2 + 2 * d + channels * p**2 * (d + 1),
    }


def counted_macs(model: DiffusionTransformer, iterations: int, batch: int = 1) -> dict[str, float]:
    """MACs per sample of a real forward pass by module name, as torch counts them."""
    shape = model.shape
    device = next(model.parameters()).device
    x = torch.zeros(batch, shape.in_channels, shape.image_size, shape.image_size, device=device)  # (B, C, H, W)
    zeros = torch.zeros(batch, dtype=torch.int64, device=device)  # (B,)
    # The counter counts the fused CPU attention as nothing.
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x, zeros, zeros, solver=functools.partial(solve, solver=Picard(), stop=Stop(iterations)))
    return {name: sum(flops.values()) / 2 / batch for name, flops in counter.get_flop_counts().items()}


def under(macs: dict[str, float], names: Iterable[str]) -> float:
    return sum(macs.get(name, 0) for name in names)


def blocks(stack: str, count: int) -> list[str]:
    # A block's modulation is called from outside the block, and so counted apart.
    return [f"{stack}.{i}{part}" for i in range(count) for part in ("", ".adaLN_modulation")]


@pytest.mark.parametrize("iterations", [1, 2, 7])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_macs_equal_the_flop_counter(shape: TransformerConfig, iterations: int) -> None:
    model = DiffusionTransformer.from_shape(shape)
    cost, counted = model.cost(), counted_macs(model, iterations, batch=2)
    if shape.middle_kind == "stack":
        iterations = shape.middle_blocks * shape.repeats
    root = "DiffusionTransformer"
    assert cost.macs == {
        "embed": under(counted, [f"{root}.x_embedder"]),
        "conditioning": under(counted, [f"{root}.t_embedder"]),
        "pre": under(counted, blocks(f"{root}.pre", shape.pre_blocks)),
        "post": under(counted, blocks(f"{root}.post", shape.post_blocks)),
        "head": under(counted, [f"{root}.head"]),
    }
    assert cost.middle.prepare + iterations * cost.middle.iterate == under(counted, [f"{root}.middle"])
    assert cost.evaluation_macs(iterations) == counted["Global"]


@pytest.mark.parametrize(
    ("name", "iterations"), [("fpdm-xl/2", 26), ("dit-xl/2", 26), ("fpdm-b/4", 5), ("dit-s/8", 10)]
)
def test_macs_of_the_presets(name: str, iterations: int) -> None:
    model = on_meta(preset(name))
    assert model.cost().evaluation_macs(iterations) == counted_macs(model, iterations)["Global"]


@pytest.mark.parametrize(("n", "m"), [(0, 1), (0, 4), (6, 2)])
@pytest.mark.parametrize("name", ["fpdm-s/4", "dit-s/4"])
def test_macs_of_a_training_step(name: str, n: int, m: int) -> None:
    model = DiffusionTransformer.from_shape(replace(preset(name), width=192, learn_variance=False))
    x, zeros = torch.zeros(1, 4, 32, 32), torch.zeros(1, dtype=torch.int64)  # (B, C, H, W), (B,)
    solver = functools.partial(unrolled(1).solve, n=n, m=m)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        prediction = model(x, zeros, zeros, solver=solver)
        prediction.value.sum().backward()
    counted = counter.get_total_flops() / 2
    told = model.cost().training_macs(prediction.solution.iters, prediction.solution.no_grad_iters)
    # Two forward passes for a backward one is a little too much: what comes first passes no gradient on.
    assert 0.97 * told < counted <= told


def test_an_iteration_of_xl_costs_1_32_blocks() -> None:
    cost = on_meta(preset("fpdm-xl/2")).cost()
    d, t = 1152, 256
    block = t * (12 * d**2 + 2 * t * d)
    assert cost.middle.iterate == block + 4 * t * d**2
    assert cost.middle.prepare == 3 * t * d**2 + 6 * d**2
    assert round(cost.middle.iterate / block, 2) == 1.32


@pytest.mark.parametrize(
    ("shape", "iterations", "passes"),
    [
        (preset("fpdm-xl/2"), 26, 28),
        (replace(preset("fpdm-xl/2"), pre_blocks=2, post_blocks=2), 10, 14),
        (replace(FPDM, middle_blocks=3), 4, 14),
        (preset("dit-xl/2"), 26, 28),
        (preset("dit-l/2"), 22, 24),
        (preset("dit-digits"), 26, 28),
        (as_dit(preset("fpdm-digits"), 28, shared=True), 26, 28),
    ],
)
def test_block_passes(shape: TransformerConfig, iterations: int, passes: int) -> None:
    cost = on_meta(shape).cost()
    assert cost.passes(iterations) == passes
    assert iterations in cost.middle.iterations


def test_a_stack_has_one_answer_and_a_fixed_point_any_number() -> None:
    assert list(on_meta(preset("dit-b/4")).cost().middle.iterations) == [10]
    answers = on_meta(preset("fpdm-b/4")).cost().middle.iterations
    assert 0 not in answers
    assert all(k in answers for k in (1, 2, 68, 10_000))


def kept_by_autograd(model: DiffusionTransformer, samples: int, iterations: int) -> int:
    shape = model.shape
    x = torch.randn(samples, shape.in_channels, shape.image_size, shape.image_size)  # (B, C, H, W)
    zeros = torch.zeros(samples, dtype=torch.int64)  # (B,)
    solver = functools.partial(unrolled(iterations).solve, n=0, m=iterations)
    return saved_bytes(model, lambda: model(x, zeros, zeros, solver=solver).value.sum())


@pytest.mark.parametrize("recomputed", ["none", "blocks", "iterations", "all"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_memory_of_training_is_below_what_autograd_keeps_and_not_far(shape: TransformerConfig, recomputed: str) -> None:
    model = DiffusionTransformer.from_shape(shape)
    model.checkpoint_activations(recomputed)  # type: ignore[arg-type]
    cost = model.cost()
    parameters = sum(4 * parameter.numel() for parameter in model.parameters())
    held = cost.weights_memory + parameters * 3  # averages and two moments

    def activations(samples: int, iterations: int) -> int:
        counted = cost.training_memory(samples, iterations, recomputed=recomputed) - held
        assert counted > parameters  # else it is the gradients
        return counted

    samples, few, many = 10_000, 2, 5  # counted, in proportion to the samples
    for iterations in (few, many):
        kept = kept_by_autograd(model, 2, iterations) * samples // 2
        assert 0.25 * kept < activations(samples, iterations) <= kept
    if recomputed == "none":
        kept = kept_by_autograd(model, 2, many) * samples // 2
        assert activations(samples, many) > 0.7 * kept
    assert cost.training_memory(0, many) == held + parameters  # with the gradients
    assert cost.training_memory(0, many, shards=4) == pytest.approx((held + parameters) / 4, abs=4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_memory_of_sampling_is_below_what_exists_at_once_and_not_far(shape: TransformerConfig) -> None:
    shape = replace(shape, image_size=32)  # so that tokens take the most
    model, samples = DiffusionTransformer.from_shape(shape), 8
    x = torch.randn(samples, shape.in_channels, shape.image_size, shape.image_size)  # (B, C, H, W)
    zeros = torch.zeros(samples, dtype=torch.int64)  # (B,)
    with torch.no_grad(), Peak() as peak:
        model(x, zeros, zeros, solver=functools.partial(solve, solver=Picard(), stop=Stop(2)))
    assert 0.4 * peak.bytes < model.cost().sampling_memory(samples) <= peak.bytes


def test_memory_of_weights_is_that_of_parameters_and_buffers_and_a_little_for_each_block() -> None:
    shape = as_dit(replace(FPDM, width=240), 5)
    model = DiffusionTransformer.from_shape(shape)
    tensors = sum(4 * tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    more = model.cost().weights_memory - tensors
    assert 0 < more / len(model.blocks()) <= objects_of_a_block()


@functools.cache
def objects_of_a_block() -> float:
    """Bytes of Python's objects alone, without those of PyTorch's library."""

    def held(blocks: int) -> int:
        tracemalloc.start()
        model = on_meta(as_dit(FPDM, blocks))
        gc.collect()
        found, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del model
        return found

    held(10)  # what the first model makes once
    return (held(60) - held(10)) / 50
