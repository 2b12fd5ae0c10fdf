"""Packed networks: the answers of the plain layers, the same in every batch, and a model that does not notice."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling import packed as module
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.packed import PackedLinear, can_be_packed, packed
from fpdm.sampling.plan import Plan
from tests.models.random_models import random_model
from tests.sampling.helpers import SCHEDULE, small_model

CPU = torch.device("cpu")
SHAPE = TransformerConfig(image_size=12, in_channels=2, patch_size=4, width=24, heads=3, num_classes=4)
SHAPES = {
    "paper": SHAPE,
    "linear injection": replace(SHAPE, injection="linear"),
    "two blocks everywhere": replace(SHAPE, pre_blocks=2, middle_blocks=2, post_blocks=2),
    "stack": as_dit(SHAPE, 5),
    "one block twice": replace(as_dit(SHAPE, 3), repeats=2),
    "unconditional": replace(SHAPE, num_classes=0),
}
pytestmark = pytest.mark.skipif(not module.are_operators_known(), reason="this PyTorch has no oneDNN on x86")


def inputs(size: int, shape: TransformerConfig = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(size, shape.in_channels, 12, 12, generator=rng)  # (B, C, H, W)
    return x, torch.arange(size) * 37 % 1000, torch.arange(size) % max(shape.num_classes, 1)


def answers(model: DiffusionTransformer, size: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Value and variance, (B, 2C, H, W)."""
    x, t, y = inputs(size, model.shape)
    with torch.no_grad():
        found = model(x.to(dtype), t, y)
    assert found.variance is not None
    return torch.cat([found.value, found.variance], 1)


def layers(model: nn.Module) -> list[PackedLinear]:
    return [one for one in model.modules() if isinstance(one, PackedLinear)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_answers_are_those_of_the_plain_layers(shape: TransformerConfig) -> None:
    model = random_model(shape, torch.float32)
    exact = answers(random_model(shape, torch.float64), dtype=torch.float64)
    found = answers(packed(model))
    assert exact.std() > 0.1  # else closeness says nothing
    torch.testing.assert_close(found, answers(model), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_layer_that_acts_on_all_tokens_is_packed(shape: TransformerConfig) -> None:
    """By hand: four of each block, and two or one of the injection."""
    model = random_model(shape, torch.float32)
    found = layers(packed(model))
    in_injection = 0 if shape.middle_kind == "stack" else {"mlp": 2, "linear": 1}[shape.injection]
    assert len(found) == 4 * len(model.blocks()) + in_injection
    assert sum(one.weight.numel() for one in found) * 4 == model.cost().packed_memory


@pytest.mark.parametrize("image_size", [4, 12])  # one token and nine
def test_an_answer_does_not_depend_on_the_batch(image_size: int) -> None:
    model = packed(random_model(replace(SHAPE, image_size=image_size), torch.float32))
    linear, x = layers(model)[0], torch.randn(33, model.shape.tokens, 24)  # (B, T, D)
    together = linear(x)  # (B, T, 3D)
    for size in (1, 2, 3, 8, 32):
        assert torch.equal(linear(x[:size]), together[:size])
        assert torch.equal(linear(x[-size:]), together[-size:])


def test_the_model_does_not_notice() -> None:
    model = random_model(SHAPE, torch.float32)
    before, modules = dict(model.state_dict(keep_vars=True)), [*model.modules()]
    twin = packed(model)
    answers(twin)
    assert [*model.modules()] == modules
    assert not layers(model)
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is value for name, value in before.items())
    fresh = random_model(SHAPE, torch.float32)
    for one in (model, fresh):
        one(*inputs(3)).value.square().mean().backward()
    for (name, ours), theirs in zip(model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name  # type: ignore[arg-type]
    assert answers(model.to(torch.bfloat16), dtype=torch.bfloat16).dtype == torch.bfloat16  # type: ignore[arg-type]


def test_weights_are_taken_as_they_are_when_they_are_packed() -> None:
    model = random_model(SHAPE, torch.float32)
    twin, before = packed(model), answers(model)
    model.blocks()[0].mlp.fc1.weight.data.mul_(1.5)
    torch.testing.assert_close(answers(twin), before, rtol=1e-5, atol=1e-5)
    assert (answers(packed(model)) - before).abs().max() > 1e-3
    torch.testing.assert_close(answers(packed(model)), answers(model), rtol=1e-5, atol=1e-5)


def compiled(model: DiffusionTransformer) -> Any:
    model.compile_iterations(backend="eager")
    return model


def compiled_by_pytorch(model: DiffusionTransformer) -> Any:
    model.compile(backend="eager")
    return model


def hooked(model: DiffusionTransformer) -> Any:
    model.blocks()[1].attn.register_forward_hook(lambda *_: None)
    return model


def replaced(model: DiffusionTransformer) -> Any:
    model.forward = model.forward  # as accelerate does, to move weights to where they are needed
    return model


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.to(torch.bfloat16),
        lambda model: model.to(torch.float64),
        lambda model: model.to("meta"),
        lambda model: torch.compile(model, backend="eager"),
        *(compiled, compiled_by_pytorch, hooked, replaced),
    ],
    ids=["bfloat16", "float64", "another device", "wrapped", "compiled", "compiled by PyTorch", "hooked", "replaced"],
)
def test_other_models_stay_as_they_are(change: Callable[[DiffusionTransformer], Any]) -> None:
    model = random_model(SHAPE, torch.float32)
    assert can_be_packed(model)
    changed = change(model)
    assert packed(changed) is changed


def test_so_do_models_under_autocast() -> None:
    model = random_model(SHAPE, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed(model) is model


def test_layers_of_other_kinds_stay_where_they_are() -> None:
    class Adapted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2.0 * super().forward(x)  # (B, T, O)

    class Quantized(Tensor):
        """A tensor that says that it is in float32."""

    model = random_model(SHAPE, torch.float32)
    model.blocks()[0].attn.qkv = Adapted(24, 72)
    mlp = model.blocks()[1].mlp
    mlp.fc1.weight = nn.Parameter(mlp.fc1.weight.detach().as_subclass(Quantized))
    twin = packed(model)
    assert len(layers(twin)) == len(layers(packed(random_model(SHAPE, torch.float32)))) - 2 * 2
    assert twin.blocks()[1].mlp is mlp
    torch.testing.assert_close(answers(twin), answers(model), rtol=1e-5, atol=1e-5)


class Missing:
    """Has no operator."""


class Wrong:
    """Has operators of these names that compute something else."""

    @staticmethod
    def _reorder_linear_weight(weight: Tensor) -> Tensor:
        return weight

    @staticmethod
    def _linear_pointwise(x: Tensor, weight: Tensor, bias: Tensor, *_: object) -> Tensor:
        return x @ weight.T  # (B, T, O): no bias


class Changed(Wrong):
    """Has operators that take other arguments."""

    @staticmethod
    def _linear_pointwise(x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        return x @ weight.T  # (B, T, O)


@pytest.mark.parametrize("operators", [Missing, Wrong, Changed])
def test_without_these_operators_nothing_is_packed(monkeypatch: pytest.MonkeyPatch, operators: type) -> None:
    model = small_model()
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    module.are_operators_known.cache_clear()
    try:
        assert packed(model) is model
        assert ImageSampler(model, SCHEDULE, Plan(28, 5), device=CPU)([0], [0]).passes == 28
    finally:
        module.are_operators_known.cache_clear()


@pytest.mark.parametrize(
    "plan",
    [Plan(28, 5), Plan(28, 5, guidance=2.0), Plan(28, 5, self_guidance=1.0), Plan(42, 5, allocation="adaptive")],
    ids=str,
)
def test_sampling_is_with_a_packed_network_that_lives_as_long_as_it(
    monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> None:
    """The samples are those of plain layers."""
    made: list[Any] = []

    def noted(model: DiffusionTransformer) -> DiffusionTransformer:
        twin = packed(model)
        made.append(weakref.ref(twin))
        assert layers(twin)
        return twin

    model = small_model()
    sampler = ImageSampler(model, SCHEDULE, plan, device=CPU)
    other = ImageSampler(copy.deepcopy(model), SCHEDULE, plan, device=CPU, allocation=sampler.allocation)
    monkeypatch.setattr("fpdm.sampling.images.packed", noted)
    drawn = [*sampler.draw(range(5), [0] * 5, batch_size=2)]
    x = {place: x for some in drawn for place, x in zip(some.places, some.x, strict=True)}
    *_, last = sampler.trajectory(range(5), [0] * 5)
    assert len(made) == 2  # however many batches there are
    gc.collect()
    assert not any(one() for one in made)
    monkeypatch.setattr("fpdm.sampling.images.packed", lambda model: model)
    *_, plain = other.trajectory(range(5), [0] * 5)
    for place in range(5):
        torch.testing.assert_close(x[place], plain.x[place], rtol=0, atol=1e-4)
        torch.testing.assert_close(last.x[place], plain.x[place], rtol=0, atol=1e-4)


def test_the_memory_of_packed_weights_counts() -> None:
    model = small_model()
    sampler = ImageSampler(model, SCHEDULE, Plan(28, 5), device=CPU)
    assert sampler.weights_memory == sampler.cost.weights_memory + sampler.cost.packed_memory
    model.compile_iterations(backend="eager")
    assert sampler.weights_memory == sampler.cost.weights_memory
