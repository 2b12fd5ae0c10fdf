"""What a comparison finds, as frozen dataclasses that JSON holds: `compare.json`, and what the report is made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """One row of `compare.json`: a model under a budget and a sampler, judged on the test split.

    Attributes:
        model: The recipe's name, with the run's folder where names repeat.
        run: The run's folder.
        parameters: Of the model.
        sampler: How it stepped.
        grid: Its timesteps.
        budget: Block passes that could be spent.
        iterations: Per step.
        steps: Sampling steps.
        allocation: Of the iterations over the steps.
        reuse: Whether solves started from the last step's solution.
        guidance: Its scale.
        candidates: Plans that were tried on the validation split before this one was taken; 1 if there was no choice.
        passes: Block passes that were spent, mean per image.
        macs: Multiply-accumulates per image.
        seconds: Per image, on this machine.
        distance: Fréchet distance in the features of `Comparison.features`.
        distance_low: Lower end of its 95 % bootstrap interval.
        distance_high: Upper end.
        distance_floor: The distance of `floor_images` real training images.
        kid: Kernel distance (squared MMD, cubic kernel) in the same features.
        kid_low: Lower end of its 95 % bootstrap interval.
        kid_high: Upper end.
        kid_floor: Their kernel distance.
        floor_images: `images`, or all that there are in the test split's class proportions if these are fewer.
        precision: Share of generated images within the real ones' manifold (Kynkäänniemi et al. 2019).
        recall: Share of real images within the generated ones' manifold.
        novelty: Median distance to the nearest training image over that of the test images; near 0 is memorising.
        images: How many were generated.
        seed: Of the noise; image i has the same in every row.
        choosing_distance: What its plan had on the validation images, which it was chosen by; None in a sweep.
    """

    model: str
    run: str
    parameters: int
    sampler: str
    grid: str
    budget: int
    iterations: int
    steps: int
    allocation: str
    reuse: bool
    guidance: float
    candidates: int
    passes: float
    macs: float
    seconds: float
    distance: float
    distance_low: float
    distance_high: float
    distance_floor: float
    kid: float
    kid_low: float
    kid_high: float
    kid_floor: float
    floor_images: int
    precision: float
    recall: float
    novelty: float
    images: int
    seed: int
    choosing_distance: float | None = None


@dataclass(frozen=True)
class Trained:
    """A model of the comparison, and how it came to be.

    Attributes:
        model: As `Result.model`.
        run: The run's folder.
        recipe: Every setting, as `Recipe.to_json` has it.
        parameters: Of the model.
        steps: It was trained for.
        seconds: It was trained for, on the machine that trained it.
        macs: Multiply-accumulates it was trained for, a backward pass counted as two forward ones.
        images_seen: Training images, repetitions counted.
        saved_bytes: Kept for the backward pass by a training step of 1 image, mean over draws of the iterations.
        saved_bytes_max: The most over the draws.
        losses: Rows of (step, MACs so far, training loss).
        validation: Rows of (timestep, mean loss on validation images at it), averaged weights.
        residuals: By timestep (rows, the noisiest first) and iteration (from the first): the mean relative change; no
            rows for a model that does not iterate.
        residual_timesteps: The timesteps of `residuals`.
    """

    model: str
    run: str
    recipe: dict[str, Any]
    parameters: int
    steps: int
    seconds: float
    macs: float
    images_seen: int
    saved_bytes: float
    saved_bytes_max: float
    losses: tuple[tuple[int, float, float], ...]
    validation: tuple[tuple[int, float], ...]
    residuals: tuple[tuple[float, ...], ...]
    residual_timesteps: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        command: What was called, for a reader to repeat.
        data: The data set's name or folder.
        features: The features that distances are measured in.
        reference: The images that samples are compared with.
        versions: Of this package, Python, PyTorch, and the machine's kind, by name.
        settings: How it was compared, as `Settings`.
        models: What was compared.
        rows: One for each model, budget and sampler, with the plan that was chosen.
        sweep: Rows over the number of iterations, everything else equal, for the models that iterate; may be empty.
    """

    command: str
    data: str
    features: str
    reference: str
    versions: dict[str, str]
    settings: dict[str, Any]
    models: tuple[Trained, ...]
    rows: tuple[Result, ...]
    sweep: tuple[Result, ...] = ()

    def to_json(self) -> str:
        """As `compare.json`."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """A table for the terminal."""
        width = max(len(row.model) for row in self.rows) + 1
        lines = [
            f"Fréchet distance to {self.reference} in {self.features}; lower is better (not FID)",
            f"{'model':<{width}}{'budget':>7} {'sampler':<13}{'grid':<9}{'steps':>6}{'iters':>6}{'passes':>8}"
            f"{'MMACs':>8}{'ms':>7}{'distance':>10}   95 % interval   floor     KID",
        ]
        lines += [
            f"{r.model:<{width}}{r.budget:>7} {r.sampler:<13}{r.grid:<9}{r.steps:>6}{r.iterations:>6}{r.passes:>8.0f}"
            f"{r.macs / 1e6:>8.0f}{1e3 * r.seconds:>7.1f}{r.distance:>10.3g}"
            f"   {f'{r.distance_low:.3g} to {r.distance_high:.3g}':<16}{r.distance_floor:<8.2g}{r.kid:.3g}"
            for r in self.rows
        ]
        return "\n".join(lines)
