"""Measure training memory: what autograd keeps for the backward pass of a network and a gradient."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fpdm.data.splits import counted
from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import FixedPointSolver, Gradient, JacobianFree
from fpdm.memory import check_memory
from fpdm.models.cost import MiddleCost, model_cost
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.recipe import Recipe


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes per image that a training step keeps for its backward pass.

    Attributes:
        mean: The mean over the draws of n and m.
        largest: The largest of the draws that can occur.
    """

    mean: float
    largest: float


@dataclass(frozen=True)
class _Draw:
    probability: float
    solver: FixedPointSolver
    start: int = 0  # 0 if no iteration is without gradient, else 1
    with_grad: int = 0


class _Saved:
    """A tensor that autograd keeps; it is freed with the graph that needs it."""

    def __init__(self, tensor: Tensor) -> None:
        # Detached: the result of an operator would keep the operator alive, which keeps the result alive.
        self.tensor = tensor.detach()


def saved_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Measure the bytes that autograd keeps for the backward pass of `loss()`, without the parameters.

    Each storage counts once and as a whole, also where only a view of it is kept, if it is still kept when `loss` has
    returned. The result depends on the device's kernels (of attention, for example) and on the data type.

    Args:
        model: The network, whose parameters are not counted: they exist with or without a backward pass.
        loss: Computes a tensor, which is dropped afterwards; nothing is differentiated.
    """
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()
    result = _watched(loss, kept)
    found = _bytes(kept, model)
    del result  # kept the graph alive until here
    return found


def _watched(
    loss: Callable[[], Tensor], kept: weakref.WeakSet[_Saved], on_unpack: Callable[[Tensor], None] = lambda _: None
) -> Tensor:
    """Return `loss()`. `kept` holds what its graph keeps, as long as it does; `on_unpack` is called when it is used."""

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        kept.add(saved)
        return saved

    def unpack(saved: _Saved) -> Tensor:
        on_unpack(saved.tensor)
        return saved.tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return loss()


def _bytes(kept: Iterable[_Saved], model: nn.Module) -> int:
    storages = {saved.tensor.untyped_storage().data_ptr(): saved.tensor.untyped_storage().nbytes() for saved in kept}
    for parameter in model.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(storages.values())


class BackwardMemory(NamedTuple):
    """Bytes in use at one moment of the backward pass.

    Attributes:
        kept: What is still kept for the rest of the backward pass, per image.
        made: Gradients of the weights that exist already.
    """

    kept: float
    made: int


def backward_memory(
    model: DiffusionTransformer, schedule: Schedule, objective: Objective, gradient: Gradient
) -> list[BackwardMemory]:
    """Measure the memory of one image's backward pass from its start to its end, for the largest draw of n and m.

    The gradients of a shared block exist from its last application on, when most of what it keeps is still needed. In
    a stack of blocks, gradients appear as activations are freed. The gradients of the measurement are dropped.
    """
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()
    without = {parameter.untyped_storage().data_ptr(): parameter for parameter in model.parameters()}

    def count_gradient(tensor: Tensor) -> None:
        """Count the gradient of a weight from when its layer is differentiated."""
        parameter = without.pop(tensor.untyped_storage().data_ptr(), None)
        if parameter is not None:
            held.append(
                BackwardMemory(_bytes(kept, model), held[-1].made + parameter.numel() * parameter.element_size())
            )

    solver = _draws(gradient)[-1].solver  # the most iterations with gradient come last
    loss = _watched(functools.partial(_loss, model, schedule, objective, solver, 1), kept, count_gradient)
    held = [BackwardMemory(_bytes(kept, model), 0)]
    hooks = [
        parameter.register_post_accumulate_grad_hook(count_gradient) for parameter in model.parameters()
    ]  # the biases
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
    """Measure what a training step keeps for its backward pass, on the model's device and in its weights' data type.

    Mixed precision is not applied. The model is unchanged: no backward pass is made.

    Args:
        model: The network.
        schedule: The noise schedule.
        objective: The loss.
        gradient: The gradient through the fixed point. Of a `JacobianFree`, the four smallest m are measured, and the
            others follow from these, as every iteration keeps as much as the last. Any other gradient is measured
            once, without the memory of its backward solve.
        batch: Number of images to measure on.

    Raises:
        ValueError: `batch` is below 1.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1 image to measure on")
    draws = _draws(gradient)
    if not model.cost().middle.adjustable:
        draws = [_Draw(1.0, draws[0].solver)]  # iterations that cannot be chosen are not drawn
    measured = {
        draw: saved_bytes(model, functools.partial(_loss, model, schedule, objective, draw.solver, batch)) / batch
        for draw in _to_measure(draws)
    }
    kept = [measured[draw] if draw in measured else _extrapolated(measured, draw) for draw in draws]
    return TrainingMemory(sum(draw.probability * bytes_ for draw, bytes_ in zip(draws, kept, strict=True)), max(kept))


class MeanDraw(NamedTuple):
    """Iterations of a training step, averaged over the draws of n and m.

    Attributes:
        iterations: All of them.
        no_grad_iterations: Those without gradient.
        all_grad: Share of the steps without any of the latter.
        exits: Share of the steps that have an early exit.
    """

    iterations: float
    no_grad_iterations: float
    all_grad: float
    exits: float


def mean_draw(gradient: Gradient, middle: MiddleCost) -> MeanDraw:
    """Return the mean number of iterations that a gradient draws for a middle of this cost.

    Raises:
        ValueError: The gradient iterates to a tolerance, so that the number is unknown in advance.
    """
    if not middle.adjustable:
        return MeanDraw(middle.iterations.start, 0.0, 1.0, float(middle.has_exit(0)))
    if not isinstance(gradient, JacobianFree):
        raise ValueError(f"{type(gradient).__name__} iterates to a tolerance; its iterations are not known in advance")
    no_grad = _distribution(gradient.no_grad, gradient.no_grad_weights)
    with_grad = _distribution(gradient.with_grad, gradient.with_grad_weights)
    n, m = (sum(value * chance for value, chance in one.items()) for one in (no_grad, with_grad))
    exits = sum(chance for value, chance in with_grad.items() if middle.has_exit(value))
    return MeanDraw(n + m, n, no_grad.get(0, 0.0), exits)


def check_fits(recipe: Recipe, samples: int, *, device: str = "cpu", processes: int = 1) -> None:
    """Check, before anything is allocated, that the training of a recipe fits in memory.

    Args:
        recipe: What is to be trained.
        samples: Samples that a process has in memory at once.
        device: Where they are.
        processes: Number of processes.

    Raises:
        ValueError: It does not fit, counted low.
    """
    train, cost = recipe.train, model_cost(recipe.model)
    iterations = train.most_grad_iterations

    def needed(samples: int) -> int:
        half, recomputed = train.mixed_precision != "no", train.activation_checkpointing
        return cost.training_memory(samples, iterations, half=half, recomputed=recomputed, shards=processes)

    check_memory(
        needed(0), f"the training of a model of {cost.total_parameters:.3g} parameters", "a smaller one", device=device
    )
    what, instead = (
        f"a training step of {counted(samples, 'image')} at once",
        "a smaller --batch-size or a larger --accumulate",
    )
    check_memory(needed(samples), what, instead, device=device)


def _loss(
    model: DiffusionTransformer, schedule: Schedule, objective: Objective, solver: FixedPointSolver, batch: int
) -> Tensor:
    """Return the loss of a training step on blank images; the memory does not depend on the values."""
    shape, device = model.shape, model.device
    x0, eps = (
        torch.zeros(batch, shape.in_channels, shape.image_size, shape.image_size, device=device) for _ in range(2)
    )  # (B, C, H, W) each
    t, y = (torch.zeros(batch, dtype=torch.long, device=device) for _ in range(2))  # (B,) each
    x = schedule.add_noise(x0, eps, t)  # (B, C, H, W)
    depth = model.cost().middle.weak_depth if objective.weak else None
    p = model(x, t, y, solver=solver, weak_depth=depth, exit_at=0.0 if objective.exit else None)
    return objective.loss(schedule, p.value, p.variance, x, x0, eps, t, weak=p.weak).total.mean()


def _draws(gradient: Gradient) -> list[_Draw]:
    if not isinstance(gradient, JacobianFree):
        return [_Draw(1.0, gradient.bind(0, 0))]
    draws: defaultdict[tuple[int, int], float] = defaultdict(float)
    no_grad = _distribution(gradient.no_grad, gradient.no_grad_weights)
    with_grad = _distribution(gradient.with_grad, gradient.with_grad_weights)
    for (n, p), (m, q) in itertools.product(no_grad.items(), with_grad.items()):
        # Only n = 0 differs: then the first z may share its storage with the output of the pre blocks.
        draws[min(n, 1), m] += p * q
    return [
        _Draw(probability, functools.partial(gradient.solve, n=n, m=m), n, m)
        for (n, m), probability in draws.items()
        if probability > 0
    ]


def _to_measure(draws: Sequence[_Draw]) -> list[_Draw]:
    """Return the draws with the fewest iterations with gradient, four of each start."""
    fewest = sorted(draws, key=lambda draw: draw.with_grad)
    return [draw for start in (0, 1) for draw in [one for one in fewest if one.start == start][:4]]


def _extrapolated(measured: Mapping[_Draw, float], draw: _Draw) -> float:
    """Return what a draw keeps, from the last two that were measured of its start."""
    (below, less), (above, more) = [(one.with_grad, kept) for one, kept in measured.items() if one.start == draw.start][
        -2:
    ]
    return more + (draw.with_grad - above) * (more - less) / (above - below)


def _distribution(bounds: tuple[int, int], weights: tuple[float, ...]) -> dict[int, float]:
    values = range(bounds[0], bounds[1] + 1)
    weights = weights or (1.0,) * len(values)
    return {value: weight / sum(weights) for value, weight in zip(values, weights, strict=True)}
