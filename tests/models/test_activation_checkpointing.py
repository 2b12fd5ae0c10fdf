"""Computing activations again changes what is kept, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fpdm.fixed_point.gradients import multistep_jfb
from fpdm.fixed_point.solve import Solution
from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.training.memory import saved_bytes
from tests.oracle import network

FPDM = TransformerConfig(image_size=8, in_channels=1, width=16, heads=2, pre_blocks=2, middle_blocks=2, num_classes=3)
DIT = as_dit(FPDM, 8)


def made(shape: TransformerConfig, what: str) -> DiffusionTransformer:
    model = DiffusionTransformer.from_shape(shape).double()
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(network.random_weights(sizes, seed=3, dtype=torch.float64, gain=0.7))
    model.checkpoint_activations(what)  # type: ignore[arg-type]
    return model


def loss(model: DiffusionTransformer) -> torch.Tensor:
    x = torch.linspace(-1, 1, 2 * 64, dtype=torch.float64).view(2, 1, 8, 8)  # (B, C, H, W)
    solver = multistep_jfb(3, 4).bind(0, 0)
    prediction = model(x, torch.tensor([3, 700]), torch.tensor([0, 2]), solver=solver)
    return prediction.value.square().sum() + prediction.solution.z.sum()


@pytest.mark.parametrize("shape", [FPDM, DIT, as_dit(FPDM, 8, shared=True)], ids=["fpdm", "dit", "shared"])
@pytest.mark.parametrize("what", ["blocks", "iterations", "all"])
def test_the_gradient_stays_what_it_is(shape: TransformerConfig, what: str) -> None:
    plain, saving = made(shape, "none"), made(shape, what)
    for model in (plain, saving):
        loss(model).backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-12, msg=name)


def kept(shape: TransformerConfig, what: str) -> int:
    model = made(shape, what)
    return saved_bytes(model, lambda: loss(model))


def test_what_is_named_is_what_is_saved() -> None:
    fpdm = {what: kept(FPDM, what) for what in ("none", "blocks", "iterations", "all")}
    assert fpdm["none"] > fpdm["blocks"] > fpdm["all"]
    assert fpdm["none"] > fpdm["iterations"] > fpdm["all"]
    dit = {what: kept(DIT, what) for what in ("none", "blocks", "iterations", "all")}
    assert dit["none"] == dit["iterations"] > 2 * dit["blocks"]
    assert dit["blocks"] == dit["all"]


def test_with_iterations_recomputed_one_more_costs_no_more_than_its_input() -> None:
    model = made(FPDM, "all")

    def bytes_of(m: int) -> int:
        solver = multistep_jfb(0, m).bind(0, 0)
        x = torch.ones(2, 1, 8, 8, dtype=torch.float64)  # (B, C, H, W)
        return saved_bytes(model, lambda: model(x, torch.tensor([3, 700]), solver=solver).value.sum())

    tokens = 2 * FPDM.tokens * FPDM.width * 8  # bytes of one z
    assert bytes_of(6) - bytes_of(5) == tokens


def test_diffusers_names_do_the_same() -> None:
    model = made(replace(FPDM), "none")
    before = saved_bytes(model, lambda: loss(model))
    model.enable_gradient_checkpointing()
    assert saved_bytes(model, lambda: loss(model)) == kept(FPDM, "all")
    model.disable_gradient_checkpointing()
    assert saved_bytes(model, lambda: loss(model)) == before


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="'some'; expected one of none, blocks, iterations, all"):
        made(FPDM, "some")


def test_a_solver_that_is_told_nothing_is_not_touched() -> None:
    model, seen = made(FPDM, "all"), []

    def solver(f, z0):  # type: ignore[no-untyped-def]
        seen.append(z0.requires_grad)
        return Solution(f(z0), 1)

    with torch.no_grad():
        model(torch.ones(1, 1, 8, 8, dtype=torch.float64), torch.tensor([1]), solver=solver)
    assert seen == [False]
