"""Comparisons that nobody ran, with figures as they could be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import torch

from fpdm.compare.results import Comparison, Result, Trained
from fpdm.drawing.sheets import Row, Sheet
from fpdm.randomness import Stream, generator
from fpdm.runs.recipes import make_recipe

MODELS = (
    "dit",
    "dit-4",
    "fpdm",
    "fpdm-everywhere",
    "fpdm-elastic",
    "shared-6",
    "dit-8",
    "dit-2",
    "shared-28",
    "dit-14",
    "shared-4",
    "dit-6",
    "dit-10",
)


def comparison(
    models: int = 10,
    budgets: Sequence[int] = (35, 70, 140, 280, 560),
    samplers: Sequence[str] = ("ddim", "second-order", "ddpm"),
    *,
    timed: bool = True,
    trained: bool = True,
    sweep: bool = False,
) -> Comparison:
    """`models` models under budgets and samplers; `trained`: with what their training recorded."""
    made = tuple(_trained(i, trained) for i in range(models))
    rows = tuple(
        _row(one, i, budget, sampler, k, timed)
        for k, sampler in enumerate(samplers)
        for budget in budgets
        for i, one in enumerate(made)
    )
    swept = tuple(
        _row(one, i, budget, samplers[0], 0, timed, iterations=iterations)
        for i, one in enumerate(made)
        if one.model.startswith("fpdm")
        for budget in budgets[-3:]
        for iterations in (1, 2, 3, 5, 8, 12, 26)
        if sweep
    )
    return Comparison(
        command="fpdm compare runs/dit runs/fpdm --budgets 35 70 140 280 560 --sampler ddim ddpm --out compare",
        data="fashion-mnist",
        features="classifier features, fashion-mnist, acc .89",
        reference="the 10,000 test images of fashion-mnist",
        versions={"fpdm": "0.1.0", "python": "3.11.9", "torch": "2.14.1", "machine": "x86_64, 2 threads"},
        settings={"budgets": list(budgets), "samplers": list(samplers), "num_images": 1000, "reuse": "choose"},
        models=made,
        rows=rows,
        sweep=swept,
    )


def _trained(i: int, trained: bool) -> Trained:
    rng = generator(1, Stream.SAMPLE, i)
    name = MODELS[i]
    whole = make_recipe("fashion-mnist", name, macs=35e12, steps=0)
    iterates = name.startswith("fpdm")
    blocks = 3 if iterates else int(name.split("-")[1]) if "-" in name else 28
    steps = 27_000 // blocks if not iterates else 4948
    losses, validation, residuals, timesteps = (), (), (), ()
    if trained:
        end, noise = 0.17 + 0.01 * i, rng.standard_normal(steps // 20)
        losses = tuple(
            (step, 35e12 * step / steps, end + 0.6 * math.exp(-step / 250) + 0.3 / (1 + step / 50) + 0.015 * z)
            for step, z in zip(range(20, steps + 1, 20), noise, strict=False)
        )
        validation = tuple((t, end * (0.5 + 3 * math.exp(-t / 90)) + 0.002 * i) for t in range(49, 1000, 50))
    if trained and iterates:
        timesteps = tuple(range(999, 0, -111))
        residuals = tuple(
            tuple(0.9 * (0.35 + 0.05 * i + 0.3 * t / 1000) ** k + 2e-4 for k in range(12)) for t in timesteps
        )
    return Trained(
        model=whole.name,
        run=f"runs/{name}",
        recipe=asdict(whole),
        parameters=1_100_000 if iterates else 280_000 * blocks + 160_000,
        steps=steps,
        seconds=3600.0 + 100 * i,
        macs=35e12,
        images_seen=128 * steps,
        saved_bytes=(2.1 + i / 20 if iterates else 0.65 * blocks) * 1e6,
        saved_bytes_max=(3.4 + i / 20 if iterates else 0.65 * blocks) * 1e6,
        losses=losses,
        validation=validation,
        residuals=residuals,
        residual_timesteps=timesteps,
    )


def _row(one: Trained, i: int, budget: int, sampler: str, k: int, timed: bool, *, iterations: int = 0) -> Result:
    rng = generator(2, Stream.SAMPLE, i, step=budget + 10_000 * k + iterations)
    iterates = one.model.startswith("fpdm")
    passes = (iterations or 5) + 2 if iterates else max(2, round((one.parameters - 160_000) / 280_000))
    steps = max(budget // passes, 1)
    middle = passes - 2 if iterates else passes
    distance = (0.9 + 0.12 * ((7 * i + 3) % 10) + 0.25 * k) * (1 + 9 / steps) * (1 + abs(math.log(middle / 5)) / 9)
    distance *= 1 + 0.03 * rng.standard_normal()
    spread = 0.08 + 0.03 * rng.random()
    return Result(
        model=one.model,
        run=one.run,
        parameters=one.parameters,
        sampler=sampler,
        grid="phi^1.5" if i % 2 else "trailing",
        budget=budget,
        iterations=middle,
        steps=steps,
        allocation="increasing" if iterates and budget > 100 else "constant",
        reuse=iterates,
        guidance=1.0,
        candidates=18 if steps > 1 else 1,
        passes=float(steps * passes),
        macs=steps * passes * 3.27e6 * (1 + 0.03 * i),
        seconds=steps * passes * 4.1e-5 * (1.3 if iterates else 1.0) if timed else 0.0,
        distance=distance,
        distance_low=distance * (1 - spread),
        distance_high=distance * (1 + spread),
        distance_floor=0.0512,
        kid=1e-3 * (2.5 * distance - 0.4),
        kid_low=1e-3 * (2.2 * distance - 0.6),
        kid_high=1e-3 * (2.9 * distance - 0.2),
        kid_floor=-2.1e-5,
        floor_images=1000,
        precision=min(0.93, 0.5 + 0.1 * math.log(steps + 1)),
        recall=0.3 + 0.05 * (i % 5),
        novelty=0.8 + 0.02 * i,
        images=1000,
        seed=0,
        choosing_distance=1.2 * distance,
    )


def images(count: int, channels: int, size: int, *, seed: int) -> torch.Tensor:
    """Soft blobs, (N, C, H, W) uint8."""
    place = torch.linspace(-1, 1, size)  # (S,)
    drawn = torch.from_numpy(generator(seed, Stream.SAMPLE, 0).random((count, channels, 4))).float()  # (N, C, 4)
    x, y, wide, bright = (drawn[..., i, None, None] for i in range(4))  # (N, C, 1, 1) each
    far = (place[:, None] - 1.2 * x + 0.6) ** 2 + (place[None, :] - 1.2 * y + 0.6) ** 2  # (N, C, S, S)
    return (255 * (0.4 + 0.6 * bright) * torch.exp(-far / (0.1 + 0.5 * wide))).to(torch.uint8)  # (N, C, S, S)


def sheets(made: Comparison, *, channels: int = 1, size: int = 28, count: int = 12) -> list[Sheet]:
    """For each budget the models' images and real ones."""
    sampler = made.rows[0].sampler
    found = []
    for budget in dict.fromkeys(row.budget for row in made.rows):
        rows = [row for row in made.rows if (row.budget, row.sampler) == (budget, sampler)]
        lines = [
            Row(f"{row.model}\n{row.steps} steps x {row.iterations}", images(count, channels, size, seed=i))
            for i, row in enumerate(rows)
        ]
        lines.append(Row("real\n(test images)", images(count, channels, size, seed=99)))
        found.append(Sheet(f"{budget} block passes: the same noise and class in every column", lines))
    return found
