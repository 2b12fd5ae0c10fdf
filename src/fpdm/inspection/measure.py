"""Record what happens while a few images are sampled: at each timestep, and within its solve."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fpdm.data.images import to_uint8
from fpdm.fixed_point.solve import Stop, solve
from fpdm.progress_bar import progress_bar
from fpdm.randomness import Stream, normal
from fpdm.runs.run import Run
from fpdm.sampling.guidance import Denoiser
from fpdm.sampling.images import SOLVERS, ImageSampler, sample_shape
from fpdm.sampling.packed import packed
from fpdm.sampling.plan import Plan
from fpdm.sampling.sampler import SampleState
from fpdm.sampling.steps import Denoised


@dataclass(frozen=True, eq=False)
class Sampling:
    """Record of a sampling by its steps.

    Attributes:
        timesteps: The timestep of each step, noisiest first.
        iterations: Iterations of each image in each step, (S, N) float64; blocks, where their number is fixed.
        previews: Clean images predicted in each step, S of (N, C, H, W) uint8.
        images: The samples, (N, C, H, W) uint8.
        passes: Block passes per image, on average.
    """

    timesteps: tuple[float, ...]
    iterations: Tensor
    previews: Sequence[Tensor]
    images: Tensor
    passes: float


@dataclass(frozen=True, eq=False)
class Solves:
    """Record of the iterations of some steps, from the same noisy images and the same start as in the sampling.

    Of a model with a stack in its middle, blocks take the place of iterations.

    Attributes:
        timesteps: The timesteps of these steps, noisiest first.
        iterations: Numbers of iterations after which the model was asked.
        shown: Place of the image that changes most within its solves.
        previews: Its predicted clean images by step and number of iterations, R rows of (K, C, H, W) uint8.
        residuals: Mean relative change by step and iteration, R rows of K numbers; none for a stack.
        spent: Iterations that the plan spends in each of these steps, on average.
    """

    timesteps: tuple[float, ...]
    iterations: tuple[int, ...]
    shown: int
    previews: Sequence[Tensor]
    residuals: Sequence[Sequence[float]]
    spent: tuple[float, ...]


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` places of `count`, evenly spread, the first and the last among them."""
    if count <= most:
        return [*range(count)]
    return [round(k * (count - 1) / (most - 1)) for k in range(most)] if most > 1 else [0]


def inspect_sampling(
    run: Run,
    plan: Plan,
    labels: Sequence[int],
    *,
    seed: int,
    rows: int = 0,
    columns: int = 0,
) -> tuple[Sampling, Solves | None]:
    """Sample images, and look into the solves of some steps.

    Image i is that of `fpdm sample`: a function of the seed and i. The looks change nothing of it.

    Args:
        run: The model.
        plan: How to spend the budget, without self-guidance.
        labels: The class of each image.
        seed: The seed.
        rows: Number of steps to look into; 0 for none.
        columns: Number of iterations to show, or of blocks.

    Raises:
        ValueError: The plan does not fit the model, or a label is out of range.
        RunError: The samples are not finite.
    """
    sampler = run.sampler(plan, seed=seed)
    indices = range(len(labels))
    steps = len(sampler.timesteps)
    looked = {*spread(steps, rows)} if rows else set[int]()
    depths, denoiser = _depths(run, columns), sampler.around(packed(run.model))
    x = normal(sample_shape(run.model), seed=seed, stream=Stream.SAMPLE, indices=indices).to(sampler.device)
    z0, before = None, 0.0
    states: list[SampleState] = []
    previews, spent, found = [], [], list[tuple[float, Tensor, list[float], float]]()
    with progress_bar("sampling", steps, "steps") as bar:
        for state in sampler.trajectory(indices, labels):
            with bar.step():
                states = [state]
                total = state.iterations  # (N,)
                spent.append(total - before)
                before = total
                previews.append(to_uint8(sampler.decode(state.x0)).cpu())  # (N, C, H, W)
                if state.index in looked:
                    predicted, residuals = _look(sampler, denoiser, x, state, labels, z0, depths)
                    found.append((state.timestep, predicted, residuals, spent[-1].mean().item()))
                x = state.x  # (N, c, h, w)
                z0 = state.solution.z if plan.reuse else None  # (N, T, D), with guidance (2N, T, D)
    images = to_uint8(sampler.decode(states[-1].x)).cpu()  # (N, C, H, W)
    passes, _ = sampler.spent(states[-1])
    sampling = Sampling(sampler.timesteps, torch.stack(spent), previews, images, passes)
    if not found:
        return sampling, None
    timesteps, predicted, residual, used = zip(*found, strict=True)
    changes = sum((row[0] - row[-1]).flatten(1).norm(dim=1) for row in predicted)  # (N,)
    assert isinstance(changes, Tensor)
    shown = int(changes.argmax())
    previews = [to_uint8(sampler.decode(row[:, shown].to(sampler.device))).cpu() for row in predicted]
    residual = residual if run.model.cost().middle.adjustable else ()
    return sampling, Solves(timesteps, tuple(depths), shown, previews, residual, used)


def inspect_adaptive(run: Run, plan: Plan, labels: Sequence[int], *, seed: int) -> Sampling:
    """Sample the same images with the adaptive allocation, at the same budget and over the same timesteps.

    Raises:
        ValueError: The model does not leave the number of iterations open.
    """
    sampling, _ = inspect_sampling(run, replace(plan, allocation="adaptive"), labels, seed=seed)
    return sampling


def _depths(run: Run, columns: int) -> list[int]:
    """Return the numbers of iterations, or of blocks, after which the model is asked."""
    middle = run.model.cost().middle
    if middle.adjustable:
        return [*range(1, columns + 1)]
    depths = [*middle.weak_depths, middle.iterations.start]
    return [depths[place] for place in spread(len(depths), columns)]


@torch.no_grad()
def _look(
    sampler: ImageSampler,
    denoiser: Denoiser,
    x: Tensor,
    state: SampleState,
    labels: Sequence[int],
    z0: Tensor | None,
    depths: Sequence[int],
) -> tuple[Tensor, list[float]]:
    """Return the predictions of x0 after each number of iterations, (K, N, c, h, w), and the mean residuals."""
    classes, middle = sampler.model.shape.num_classes, sampler.cost.middle
    y = torch.tensor(list(labels), device=x.device) if classes else None  # (N,)
    t = torch.full((len(x),), state.timestep, device=x.device)  # (N,)
    shown, residuals = [], []
    for depth in depths:
        stop = Stop(depth if middle.adjustable else middle.iterations.start, measure=middle.adjustable)
        bound = functools.partial(solve, solver=SOLVERS[sampler.plan.solver], stop=stop)
        weak = depth if not middle.adjustable and depth < middle.iterations.start else None
        prediction = denoiser(x, t, y, solver=bound, z0=z0, weak_depth=weak)
        value = prediction.value if weak is None else prediction.weak  # (N, c, h, w)
        assert value is not None
        clip = sampler.autoencoder.clip
        known = Denoised.from_v(sampler.schedule, x, value, t, clip=clip)
        shown.append(known.x0.cpu())  # (N, c, h, w)
        if prediction.solution.residual is not None:
            residuals.append(prediction.solution.residual.mean().item())
    return torch.stack(shown), residuals  # (K, N, c, h, w)
