"""The parts of a block and the head against the plain ones of tests/oracle/network.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from fpdm.models.block import Attention, Blocks, DiTBlock, Head, init_linears, init_zero, recomputed
from tests.oracle import network

WIDTH, HEADS = 12, 3


def randomise(module: nn.Module) -> dict[str, Tensor]:
    """Give a module random weights, none of them zero, and return them."""
    sizes = {name: value.shape for name, value in module.state_dict().items()}
    weights = network.random_weights(sizes, seed=0, dtype=torch.float64)
    module.double().load_state_dict(weights)
    return weights


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 5, WIDTH, dtype=torch.float64), torch.randn(
        2, WIDTH, dtype=torch.float64
    )  # (B, T, D), (B, D)


def assert_close(got: Tensor, want: Tensor) -> None:
    assert want.std() > 0.1  # else closeness says nothing
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_attention_equals_the_oracles() -> None:
    attention, (x, _) = Attention(WIDTH, HEADS), inputs()
    weights = {f"attn.{name}": value for name, value in randomise(attention).items()}
    assert_close(attention(x), network.attention(weights, "attn", x, HEADS))


@pytest.mark.parametrize(("norm_eps", "mlp_norm_eps"), [(1e-6, 0.0), (1e-2, 0.0), (1e-6, 1e-1)])
def test_a_block_equals_the_oracles(norm_eps: float, mlp_norm_eps: float) -> None:
    block, (x, c) = DiTBlock(WIDTH, HEADS, norm_eps=norm_eps, mlp_norm_eps=mlp_norm_eps), inputs()
    weights = {f"b.{name}": value for name, value in randomise(block).items()}
    shape = SimpleNamespace(heads=HEADS, norm_eps=norm_eps, mlp_norm_eps=mlp_norm_eps)
    assert_close(block(x, block.modulation(c)), network.block(weights, "b", x, c, shape))


def test_a_fresh_block_is_the_identity() -> None:
    block, (x, c) = DiTBlock(WIDTH, HEADS).double(), inputs()
    assert torch.equal(block(x, block.modulation(c)), x)


def test_blocks_are_applied_in_order_each_with_its_own_modulation() -> None:
    blocks, (x, c) = Blocks(3, WIDTH, HEADS), inputs()
    weights = randomise(blocks)
    shape = SimpleNamespace(heads=HEADS, norm_eps=1e-6, mlp_norm_eps=0.0)
    modulations, want = blocks.modulations(c), x
    for i in range(3):
        want = network.block(weights, str(i), want, c, shape)  # (B, T, D)
    assert_close(blocks(x, modulations), want)
    with pytest.raises(ValueError, match="2 modulations for 3 blocks"):
        blocks(x, modulations[:2])


def test_no_blocks_are_the_identity() -> None:
    x, c = inputs()
    assert Blocks(0, WIDTH, HEADS)(x, Blocks(0, WIDTH, HEADS).modulations(c)) is x


def test_the_head_equals_the_oracles() -> None:
    head, (x, c) = Head(WIDTH, 2, 3), inputs()
    weights = randomise(head)
    two = network.linear(network.silu(c), weights, "adaLN_modulation.1").unsqueeze(1)  # (B, 1, 2D)
    h = network.layer_norm(x, 1e-6) * (1 + two[..., WIDTH:]) + two[..., :WIDTH]  # (B, T, D)
    want = network.linear(h, weights, "linear")  # (B, T, p p C)
    assert want.shape == (2, 5, 2 * 2 * 3)
    assert_close(head(x, c), want)


def test_recomputed_keeps_the_arguments_only_and_has_the_same_gradient() -> None:
    calls, x = [], torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)

    def function(value: Tensor, times: float) -> Tensor:
        calls.append(times)
        return (value.exp() * times).sin().sum()

    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        out = recomputed(function, x, 3.0)
    assert all(value.data_ptr() == x.data_ptr() or not value.numel() for value in kept)
    (gradient,) = torch.autograd.grad(out, x)
    assert len(calls) == 2
    torch.testing.assert_close(gradient, (x.exp() * 3).cos() * 3 * x.exp())


def test_linear_layers_start_with_xaviers_weights_and_no_bias() -> None:
    module = nn.Sequential(nn.Linear(200, 100), nn.LayerNorm(100), nn.Sequential(nn.Linear(100, 300)))
    nn.init.constant_(module[1].bias, 2.0)
    init_linears(module)
    for layer in (module[0], module[2][0]):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert not layer.bias.any()
    assert (module[1].bias == 2.0).all()  # not a linear layer
    init_zero(module)
    assert not any(parameter.any() for parameter in module.parameters())
