"""Training memory: what autograd keeps for the backward pass, the part of it that network and gradient decide."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import FixedPointSolver, Gradient, JacobianFree
from fpdm.models.cost import MiddleCost
from fpdm.models.transformer import DiffusionTransformer


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes per image that a training step keeps for its backward pass.

    Attributes:
        mean: Over the draws of n and m, by their probabilities.
        largest: Of the draws that can occur.
    """

    mean: float
    largest: float


@dataclass(frozen=True)
class _Draw:
    probability: float
    solver: FixedPointSolver


class _Saved:
    """A tensor that autograd keeps; it goes when the graph that wants it goes."""

    def __init__(self, tensor: Tensor) -> None:
        # With its history an operator's own result would keep that operator, which keeps the result.
        self.tensor = tensor.detach()


def saved_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of `loss()`, each storage once, without the parameters.

    Counted are whole storages, a view's too, of what is still kept when `loss` has returned. What it keeps depends on
    the device's kernels (attention's, say) and on the type that it computes in.

    Args:
        model: Its parameters are left out: they are there with or without a backward pass.
        loss: Computes a tensor, which is let go afterwards; nothing is differentiated.
    """
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()
    result = _watched(loss, kept)
    found = _bytes(kept, model)
    del result  # kept the graph alive until here
    return found


def _watched(
    loss: Callable[[], Tensor], kept: weakref.WeakSet[_Saved], wanted: Callable[[Tensor], None] = lambda _: None
) -> Tensor:
    """`loss()`; what its graph keeps is in `kept` for as long as it does, and `wanted` hears what it takes back."""

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        kept.add(saved)
        return saved

    def unpack(saved: _Saved) -> Tensor:
        wanted(saved.tensor)
        return saved.tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return loss()


def _bytes(kept: Iterable[_Saved], model: nn.Module) -> int:
    storages = {saved.tensor.untyped_storage().data_ptr(): saved.tensor.untyped_storage().nbytes() for saved in kept}
    for parameter in model.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(storages.values())


class Held(NamedTuple):
    """Bytes at a moment of the backward pass.

    Attributes:
        kept: What is still kept for the rest of it, per image.
        made: Gradients of the weights that are there already.
    """

    kept: float
    made: int


def backward_memory(
    model: DiffusionTransformer, schedule: Schedule, objective: Objective, gradient: Gradient
) -> list[Held]:
    """What the backward pass of one image holds from its beginning to its end, in the largest draw of n and m.

    A shared block's gradients are there from its last application on, when most of what it keeps is still wanted; in a
    stack of blocks the ones come as the other goes. A backward pass is made, and its gradients are let go.
    """
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()
    without = {parameter.untyped_storage().data_ptr(): parameter for parameter in model.parameters()}

    def begin(tensor: Tensor) -> None:
        """A layer takes its weight back to differentiate: from here on there is a gradient of it."""
        parameter = without.pop(tensor.untyped_storage().data_ptr(), None)
        if parameter is not None:
            held.append(Held(_bytes(kept, model), held[-1].made + parameter.numel() * parameter.element_size()))

    solver = _draws(gradient)[-1].solver  # the most iterations with gradient come last
    loss = _watched(functools.partial(_loss, model, schedule, objective, solver, 1), kept, begin)
    held = [Held(_bytes(kept, model), 0)]
    hooks = [parameter.register_post_accumulate_grad_hook(begin) for parameter in model.parameters()]  # the biases
    try:
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad()
    return held


def training_memory(
    model: DiffusionTransformer, schedule: Schedule, objective: Objective, gradient: Gradient, *, batch: int = 1
) -> TrainingMemory:
    """Measure what a training step keeps for its backward pass, on the model's device and in its weights' type.

    Mixed precision is not applied. The model stays as it is: no backward pass is made.

    Args:
        model: The network.
        schedule: Its noise schedule.
        objective: The loss.
        gradient: Through the fixed point. Of a `JacobianFree` every m is measured; any other is measured once, without
            what its own backward solve may keep.
        batch: Images to measure on.

    Raises:
        ValueError: `batch` below 1.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1 image to measure on")
    draws = _draws(gradient)
    if not model.cost().middle.adjustable:
        draws = [_Draw(1.0, draws[0].solver)]  # iterations that cannot be chosen are not drawn
    kept = [
        saved_bytes(model, functools.partial(_loss, model, schedule, objective, draw.solver, batch)) / batch
        for draw in draws
    ]
    return TrainingMemory(sum(draw.probability * bytes_ for draw, bytes_ in zip(draws, kept, strict=True)), max(kept))


class MeanDraw(NamedTuple):
    """Iterations of a training step, in the mean over the draws of n and m."""

    iterations: float
    no_grad_iterations: float


def mean_draw(gradient: Gradient, middle: MiddleCost) -> MeanDraw:
    """What a gradient draws in the mean for a middle of this cost.

    Raises:
        ValueError: The gradient draws nothing, so that its iterations are not known beforehand.
    """
    if not middle.adjustable:
        return MeanDraw(middle.iterations.start, 0.0)
    if not isinstance(gradient, JacobianFree):
        raise ValueError(f"{type(gradient).__name__} iterates to a tolerance; its iterations are not known beforehand")
    n, m = (
        sum(value * chance for value, chance in _distribution(bounds, weights).items())
        for bounds, weights in (
            (gradient.no_grad, gradient.no_grad_weights),
            (gradient.with_grad, gradient.with_grad_weights),
        )
    )
    return MeanDraw(n + m, n)


def _loss(
    model: DiffusionTransformer, schedule: Schedule, objective: Objective, solver: FixedPointSolver, batch: int
) -> Tensor:
    """A training step's loss on blank images: what is kept does not depend on the values."""
    shape, device = model.shape, model.device
    x0, eps = (
        torch.zeros(batch, shape.in_channels, shape.image_size, shape.image_size, device=device) for _ in range(2)
    )  # (B, C, H, W) each
    t, y = (torch.zeros(batch, dtype=torch.long, device=device) for _ in range(2))  # (B,) each
    x = schedule.add_noise(x0, eps, t)  # (B, C, H, W)
    prediction = model(x, t, y, solver=solver)
    return objective.loss(schedule, prediction.value, prediction.variance, x, x0, eps, t).total.mean()


def _draws(gradient: Gradient) -> list[_Draw]:
    if not isinstance(gradient, JacobianFree):
        return [_Draw(1.0, gradient.bind(0, 0))]
    draws: defaultdict[tuple[int, int], float] = defaultdict(float)
    no_grad = _distribution(gradient.no_grad, gradient.no_grad_weights)
    with_grad = _distribution(gradient.with_grad, gradient.with_grad_weights)
    for (n, p), (m, q) in itertools.product(no_grad.items(), with_grad.items()):
        # Of n it only matters whether it is 0: then the first z may share its storage with the pre blocks' output.
        draws[min(n, 1), m] += p * q
    return [
        _Draw(probability, functools.partial(gradient.solve, n=n, m=m))
        for (n, m), probability in draws.items()
        if probability > 0
    ]


def _distribution(bounds: tuple[int, int], weights: tuple[float, ...]) -> dict[int, float]:
    values = range(bounds[0], bounds[1] + 1)
    weights = weights or (1.0,) * len(values)
    return {value: weight / sum(weights) for value, weight in zip(values, weights, strict=True)}
