"""Saved bytes, held to a walk over autograd's graph that looks into every node for the tensors it keeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import (
    FixedPointSolver,
    Gradient,
    Implicit,
    JacobianFree,
    jfb,
    multistep_jfb,
    stochastic_jfb,
    unrolled,
)
from fpdm.fixed_point.solve import Stop
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.transformer import DiffusionTransformer
from fpdm.training.memory import backward_memory, saved_bytes, training_memory
from tests.training.small import SHAPE

SHAPES = {
    "fpdm": SHAPE,
    "learned variance": replace(SHAPE, learn_variance=True),
    "cell of two, linear injection": replace(SHAPE, middle_blocks=2, injection="linear", timestep_everywhere=True),
    "unconditional": replace(SHAPE, num_classes=0),
    "dit": as_dit(SHAPE, 5),
    "shared": as_dit(SHAPE, 5, shared=True),
}


def graph_bytes(loss: Tensor, parameters: Iterable[Tensor]) -> int:
    """The storages of all tensors that the nodes behind `loss` keep, without the parameters'."""
    assert loss.grad_fn is not None
    nodes, found = {loss.grad_fn}, {}
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        for name in dir(node):
            value = getattr(node, name) if name.startswith("_saved_") else None
            for tensor in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(tensor, Tensor) and tensor.ndim:  # without the Python numbers that autograd wraps
                    found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        following = {after for after, _ in node.next_functions if after is not None} - nodes
        nodes |= following
        waiting += following
    return sum(found[key] for key in found.keys() - {p.untyped_storage().data_ptr() for p in parameters})


def network(shape: TransformerConfig) -> DiffusionTransformer:
    model = DiffusionTransformer.from_shape(shape)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


def step_bytes(model: DiffusionTransformer, solver: FixedPointSolver, batch: int = 1) -> int:
    """By the walk, of a training step on random images."""
    shape, schedule, rng = model.shape, Schedule(), torch.Generator().manual_seed(1)
    size = (batch, shape.in_channels, shape.image_size, shape.image_size)
    x0, eps = torch.randn(size, generator=rng), torch.randn(size, generator=rng)  # (B, C, H, W)
    t, y = torch.full((batch,), 500), torch.zeros(batch, dtype=torch.long)  # (B,)
    x = schedule.add_noise(x0, eps, t)  # (B, C, H, W)
    p = model(x, t, y, solver=solver)
    loss = Objective().loss(schedule, p.value, p.variance, x, x0, eps, t).total.mean()
    return graph_bytes(loss, model.parameters())


def measure(model: DiffusionTransformer, gradient: Gradient, batch: int = 1) -> tuple[float, float]:
    memory = training_memory(model, Schedule(), Objective(), gradient, batch=batch)
    return memory.mean, memory.largest


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_one_draw_is_what_the_graph_holds(shape: TransformerConfig, batch: int) -> None:
    model = network(shape)
    want = step_bytes(model, partial(unrolled(2).solve, n=2, m=2), batch) / batch
    assert want > 1000
    assert measure(model, multistep_jfb(2, 2), batch) == (want, want)


@pytest.mark.parametrize("weights", [(), (0.5, 0.0, 0.3, 0.0)], ids=["uniform", "weighted"])
def test_mean_and_largest_are_over_all_draws(weights: tuple[float, ...]) -> None:
    model, gradient = network(SHAPE), JacobianFree((0, 3), (1, 4), (1.0, 2.0, 0.0, 1.0), weights)
    by_n = {0: 0.25, 1: 0.5, 3: 0.25}
    by_m = {1: 0.625, 3: 0.375} if weights else dict.fromkeys(range(1, 5), 0.25)
    kept = {(n, m): step_bytes(model, partial(gradient.solve, n=n, m=m)) for n in by_n for m in by_m}
    assert kept[0, 1] < kept[1, 1] == kept[3, 1] < kept[3, 3]
    mean, largest = measure(model, gradient)
    assert mean == pytest.approx(sum(by_n[n] * by_m[m] * kept[n, m] for n, m in kept), rel=1e-12)
    assert largest == max(kept.values())


def test_iterations_without_gradient_keep_nothing() -> None:
    model = network(SHAPE)
    assert measure(model, jfb(1)) == measure(model, jfb(30))
    assert measure(model, jfb(1))[0] < measure(model, multistep_jfb(1, 2))[0]


def test_exact_gradient_is_measured_once_and_keeps_the_same_however_long_it_iterates() -> None:
    model = network(SHAPE)
    short, long = (measure(model, Implicit(stop=Stop(n, tol=1e-9))) for n in (2, 30))
    assert short == long
    assert short[0] == short[1] > measure(model, jfb(1))[0]


@pytest.mark.parametrize("weights", [(), (0.0, 1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 0.0, 3.0)], ids=["uniform", "weighted"])
def test_many_iterations_keep_what_follows_from_few(weights: tuple[float, ...]) -> None:
    model, gradient = network(SHAPE), JacobianFree((0, 1), (1, 9), (), weights)
    by_m = dict(enumerate(weights or (1.0,) * 9, 1))
    kept = {
        (n, m): step_bytes(model, partial(gradient.solve, n=n, m=m))
        for n in (0, 1)
        for m, weight in by_m.items()
        if weight
    }
    mean, largest = measure(model, gradient)
    expected = sum(by_m[m] * bytes_ for (_, m), bytes_ in kept.items()) / (2 * sum(by_m.values()))
    assert mean == pytest.approx(expected, rel=1e-12)
    assert largest == pytest.approx(max(kept.values()), rel=1e-12)


@pytest.mark.parametrize(
    ("shape", "gradient", "evaluations"),
    [
        (SHAPE, stochastic_jfb(5, 1000), 8),
        (SHAPE, stochastic_jfb(5, 3), 6),  # every m after no iteration, and after some
        (SHAPE, multistep_jfb(5, 3), 1),
        (SHAPE, Implicit(), 1),
        (as_dit(SHAPE, 5), stochastic_jfb(5, 3), 1),
        (as_dit(SHAPE, 5), Implicit(), 1),
    ],
)
def test_evaluates_no_more_than_it_must(shape: TransformerConfig, gradient: Gradient, evaluations: int) -> None:
    model, made = network(shape), []
    model.register_forward_hook(lambda *_: made.append(1))
    mean, largest = measure(model, gradient)
    assert len(made) == evaluations
    assert (mean == largest) == (evaluations == 1)


@pytest.mark.parametrize("train", [True, False])
def test_model_and_random_state_stay_as_they_are(train: bool) -> None:
    model = network(SHAPE).train(train)
    first, *others = model.parameters()
    first.grad = torch.ones_like(first)
    weights, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with torch.no_grad():
        inside = measure(model, stochastic_jfb(2, 2))
        assert not torch.is_grad_enabled()
    assert inside == measure(model, stochastic_jfb(2, 2))  # a caller without gradient gets the same
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in others)
    assert all(module.training == train for module in model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("batch", [0, -1])
def test_no_images_are_refused(batch: int) -> None:
    with pytest.raises(ValueError, match=f"batch is {batch}; expected at least 1"):
        measure(network(SHAPE), jfb(1), batch)


@pytest.mark.parametrize(("limit", "bound"), [(3, 0.20), (12, 0.41)])
def test_fpdm_keeps_a_fraction_of_what_the_dit_of_28_blocks_keeps(limit: int, bound: float) -> None:
    shape, gradient = preset("fpdm-fashion"), stochastic_jfb(limit, limit)
    fpdm, dit = (measure(network(s), gradient)[0] for s in (shape, as_dit(shape, 28)))
    assert fpdm / dit < bound


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10))


def test_saved_bytes_by_hand() -> None:
    module, x = Scale(), torch.ones(4, 10)
    w = module.weight
    assert saved_bytes(module, lambda: (w * x).sum()) == 160  # x
    assert saved_bytes(module, lambda: (w * x).exp().sum()) == 320  # x, and what exp gave
    assert saved_bytes(module, lambda: (w * x + w * x[:2].repeat(2, 1)).sum()) == 320  # two tensors
    assert saved_bytes(module, lambda: (w * x[:1] + w * x[1:2]).sum()) == 160  # two views of one storage: all of it
    assert saved_bytes(module, lambda: (w * w).sum()) == 0  # parameters
    assert saved_bytes(module, lambda: (w.detach() * x).sum()) == 0  # nothing to differentiate


def test_what_is_let_go_before_the_end_does_not_count() -> None:
    module = Scale()

    def loss() -> Tensor:
        for _ in range(5):
            (module.weight * torch.ones(1000, 10)).exp().sum()  # a graph that nobody keeps
        return (module.weight * torch.ones(4, 10)).sum()

    assert saved_bytes(module, loss) == 160
    assert saved_bytes(module, torch.no_grad()(loss)) == 0


@pytest.mark.parametrize("name", SHAPES)
def test_the_backward_pass_trades_what_is_kept_for_gradients(name: str) -> None:
    model, objective, gradient = network(SHAPES[name]), Objective(), stochastic_jfb(3, 4)
    held = backward_memory(model, Schedule(), objective, gradient)
    assert held[0] == (training_memory(model, Schedule(), objective, gradient).largest, 0)
    assert held[-1].made == sum(4 * parameter.numel() for parameter in model.parameters())
    assert held[-1].kept < 0.05 * held[0].kept
    assert all(after.kept <= before.kept and after.made > before.made for before, after in itertools.pairwise(held))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_shared_blocks_gradients_come_first_and_what_it_keeps_goes_last() -> None:
    """With most of the weights in it, nearly both are there at once; in a stack there is half of each half way."""

    def share(shape: TransformerConfig) -> float:
        model = network(shape)
        held = backward_memory(model, Schedule(), Objective(), unrolled(12))
        return max(moment.kept / held[0].kept + moment.made / held[-1].made for moment in held)

    outside = {"pre_blocks": 1, "post_blocks": 1, "width": 64}
    assert share(replace(SHAPE, **outside)) > 1.4
    assert share(as_dit(replace(SHAPE, **outside), 12)) < 1.25
