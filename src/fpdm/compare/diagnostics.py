"""Diagnose a trained model: how it was trained, its memory, losses and residuals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from fpdm.compare.results import Trained
from fpdm.data.dataset import Examples
from fpdm.fixed_point.solve import Map, Solution, Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.randomness import Stream, normal
from fpdm.runs.layout import METRICS
from fpdm.runs.metrics_log import read_rows
from fpdm.runs.run import Run
from fpdm.sampling.timesteps import trailing
from fpdm.training.memory import training_memory
from fpdm.training.validation import evaluate_loss

TIMESTEPS, ITERATIONS, IMAGES = 10, 26, 32  # of the residuals; 26 is the number of middle blocks of DiT-XL
_ROWS = 400  # of the loss curve


def diagnose(name: str, folder: Path, run: Run, data: Examples) -> Trained:
    """Collect what a comparison shows of a run besides its images.

    Args:
        name: Its name in the comparison.
        folder: The run's folder.
        run: The run.
        data: Images or latents that the run was not trained on.
    """
    config, schedule = run.recipe.train, run.recipe.schedule
    memory = training_memory(run.model, schedule, config.make_objective(), config.make_gradient())
    timesteps = trailing(schedule, min(TIMESTEPS, schedule.num_timesteps))
    changes = residuals(run, data, timesteps)
    return Trained(
        model=name,
        run=str(folder),
        recipe=dataclasses.asdict(run.recipe),
        parameters=run.model.cost().total_parameters,
        steps=run.progress.step,
        seconds=run.progress.seconds,
        macs=run.progress.macs,
        images_seen=run.progress.step * config.batch_size,
        saved_bytes=memory.mean,
        saved_bytes_max=memory.largest,
        losses=_losses(folder, run.progress.step),
        validation=tuple(
            (row.timestep, row.loss) for row in evaluate_loss(run.model, schedule, config.make_objective(), data)
        ),
        residuals=changes,
        residual_timesteps=timesteps if changes else (),
    )


@torch.no_grad()
def residuals(run: Run, data: Examples, timesteps: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
    """Measure how much each iteration changes the iterate, on noised images and from a cold start.

    Returns:
        Mean relative change by timestep (rows) and iteration (columns); empty for a model whose number of iterations is
        fixed.
    """
    if not run.model.cost().middle.adjustable:
        return ()
    places = range(min(IMAGES, len(data)))
    device = run.model.device
    x0, y = (tensor.to(device) for tensor in data.batch(places))  # (B, C, H, W), (B,)
    y = y if run.model.shape.num_classes else torch.zeros_like(y)  # (B,)
    rows = []
    for timestep in timesteps:
        eps = normal(data.shape, seed=0, stream=Stream.VALIDATION, indices=places, step=timestep)  # (B, C, H, W)
        t = torch.full((len(places),), timestep, device=device)  # (B,)
        changes: list[float] = []

        def one_by_one(f: Map, z0: Tensor, changes: list[float] = changes) -> Solution:
            found = Solution(z0, 0)
            for _ in range(ITERATIONS):
                found = solve(f, found.z, solver=Picard(), stop=Stop(1, measure=True))
                assert found.residual is not None
                changes.append(found.residual.mean().item())
            return found

        run.model(run.recipe.schedule.add_noise(x0, eps.to(device), t), t, y, solver=one_by_one)
        rows.append(tuple(changes))
    return tuple(rows)


def _losses(folder: Path, last: int) -> tuple[tuple[int, float, float], ...]:
    """(step, MACs, loss) from the run's metrics, averaged down to a few hundred rows; empty if the file is missing."""
    rows = [row for row in read_rows(folder / METRICS) if row["step"] <= last and row["loss"] is not None]
    stride = -(-len(rows) // _ROWS) or 1
    groups = [rows[start : start + stride] for start in range(0, len(rows), stride)]
    return tuple(
        (group[-1]["step"], group[-1]["macs"], sum(row["loss"] for row in group) / len(group)) for group in groups
    )
