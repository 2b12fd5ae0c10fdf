"""The results of a comparison: written to `compare.json`, read back from it, and shown by the report."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fpdm.configuration import from_values, parse_json
from fpdm.files import read_text
from fpdm.models.config import Kind, kind_of
from fpdm.sampling.timesteps import PHI

FILE = "compare.json"


@dataclass(frozen=True)
class Result:
    """One row of the results: a model under a budget and a sampler, measured on the test split.

    Attributes:
        model: Name of the recipe, or the run's folder where names repeat.
        run: The run's folder.
        parameters: Number of parameters of the model.
        sampler: Name of the sampler.
        grid: Name of the timestep grid.
        budget: Block passes that could be spent per image.
        iterations: Fixed-point iterations per step.
        steps: Sampling steps.
        allocation: How the iterations are spread over the steps.
        reuse: Whether each solve starts from the last step's solution.
        guidance: Scale of classifier-free guidance.
        candidates: Plans tried on the validation split before this one was chosen; 1 if there was no choice.
        passes: Block passes spent, mean per image.
        macs: Multiply-accumulates per image.
        seconds: Seconds per image on this machine.
        distance: Fréchet distance in the features of `Comparison.features`.
        distance_low: Lower end of its 95 % bootstrap interval.
        distance_high: Upper end of that interval.
        distance_floor: Fréchet distance of `floor_images` real training images.
        kid: Kernel distance (squared MMD, cubic kernel) in the same features.
        kid_low: Lower end of its 95 % bootstrap interval.
        kid_high: Upper end of that interval.
        kid_floor: Kernel distance of `floor_images` real training images.
        floor_images: Number of training images that the floors are computed from: `images`, or all that there are in
            the class proportions of the test split if these are fewer.
        precision: Share of generated images within the manifold of the real ones (Kynkäänniemi et al. 2019).
        recall: Share of real images within the manifold of the generated ones.
        novelty: Median distance to the nearest training image, relative to that of the test images; near 0 means
            memorised.
        images: Number of generated images.
        seed: Seed of the noise. Image i starts from the same noise in every row.
        choosing_distance: Fréchet distance to the validation images, by which the plan was chosen; None in a sweep.
        measures: Values of measures without a field of their own, by name.
        self_guidance: Weight of self-guidance; 0 is without.
        weak_depth: Depth of its weaker answer; None without.
        self_guidance_range: The lowest and the highest timestep that are guided by it; empty for all.
        batches: Number of batches that `seconds` is the fastest of; 0 for a mean, as earlier versions measured it.
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
    measures: dict[str, float] = field(default_factory=dict)
    self_guidance: float = 0.0
    weak_depth: int | None = None
    self_guidance_range: tuple[int, ...] = ()
    batches: int = 0

    def self_guidance_in_words(self) -> str:
        """Describe the self-guidance, as "self-guidance 1 (depth 2)"."""
        if not self.self_guidance:
            return "no self-guidance"
        between = ", timesteps {} to {}".format(*self.self_guidance_range) if self.self_guidance_range else ""
        return f"self-guidance {self.self_guidance:g} (depth {self.weak_depth}{between})"


@dataclass(frozen=True)
class Trained:
    """A model of the comparison and its training.

    Attributes:
        model: As `Result.model`.
        run: The run's folder.
        recipe: Every setting, as in `Recipe.to_json`.
        parameters: Number of parameters.
        steps: Training steps.
        seconds: Training time on the machine that trained it.
        macs: Multiply-accumulates of the training; a backward pass counts as two forward passes.
        images_seen: Training images, repetitions included.
        saved_bytes: Memory that a training step keeps per image for the backward pass, mean over the random numbers of
            iterations.
        saved_bytes_max: The largest value over those numbers.
        losses: Rows of (step, MACs so far, training loss).
        validation: Rows of (timestep, mean loss on validation images), with averaged weights.
        residuals: Mean relative change by timestep (rows, noisiest first) and iteration (columns); empty for a model
            that does not iterate.
        residual_timesteps: The timesteps of the rows of `residuals`.
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

    @property
    def kind(self) -> Kind:
        """The kind of its network, as `kind_of` tells it."""
        shape = self.recipe.get("model")
        return kind_of(shape if isinstance(shape, dict) else {})


@dataclass(frozen=True)
class ImageRow:
    """The content of one row of the image sheet.

    Attributes:
        kind: "samples" of a result, the "nearest" training image to each of them, or "real" test images.
        model: Model of the result.
        budget: Budget of the result.
        sampler: Sampler of the result.
    """

    kind: Literal["samples", "nearest", "real"]
    model: str = ""
    budget: int = 0
    sampler: str = ""


@dataclass(frozen=True)
class ImageSheet:
    """The image sheet beside `compare.json`: one lossless PNG with the first images of every result.

    Attributes:
        columns: Number of images per row.
        rows: The rows, from top to bottom.
    """

    columns: int
    rows: tuple[ImageRow, ...]


@dataclass(frozen=True)
class StageResult:
    """The outcome of a stage of a comparison.

    Attributes:
        name: Name of the stage.
        images: The smallest and the largest number of images of its rows.
        plans: Most plans that were tried for a row; 1 if none were searched.
        seconds: Seconds since the comparison began, when it ended.
        answer: Its verdict.
    """

    name: str
    images: tuple[int, int]
    plans: int
    seconds: float
    answer: str


@dataclass(frozen=True)
class Comparison:
    """The results of `compare`.

    Attributes:
        command: The command that made it.
        data: Name or folder of the data.
        features: Features that distances are measured in.
        reference: Real images that samples are compared with.
        versions: Versions of this package, Python and PyTorch, and the kind of machine, by name.
        settings: How the runs were compared, as in `Settings`.
        models: The models.
        rows: One result per model, budget and sampler, with the plan that was chosen.
        sweep: Results over the number of iterations with everything else equal, for models that iterate; may be empty.
        images: What the image sheet shows; None for a comparison without one.
        stages: The stages so far, if it was made in stages; `rows` are those of the last.
        is_full: Whether the rows are those of the full protocol of `settings`.
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
    images: ImageSheet | None = None
    stages: tuple[StageResult, ...] = ()
    is_full: bool = True

    def to_json(self) -> str:
        """Return the content of `compare.json`."""
        values = asdict(self)
        for row in (*values["rows"], *values["sweep"]):
            if not row["measures"]:
                del row["measures"]
            if not row["self_guidance"]:
                del row["self_guidance"], row["weak_depth"], row["self_guidance_range"]
        if self.images is None:
            del values["images"]
        if not self.stages:
            del values["stages"], values["is_full"]
        return json.dumps(values, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """Read the content of `compare.json`, also as earlier versions wrote it.

        Raises:
            ValueError: The text is damaged, or is not that of a comparison.
        """
        values = parse_json(text, "it")
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
        for row in (*_dicts(values.get("rows")), *_dicts(values.get("sweep"))):
            row.setdefault("floor_images", row.get("images"))
        found = from_values(cls, values, "comparison")
        if not found.rows or not found.models:
            raise ValueError("it has no rows or no models")
        if not all(math.isfinite(row.distance) for row in (*found.rows, *found.sweep)):
            raise ValueError("it has a distance that is nan or inf")
        return found

    def to_text(self) -> str:
        """Return a table for the terminal."""
        width = max(len(row.model) for row in self.rows) + 1
        lines = [
            f"Fréchet distance to {self.reference} in {self.features}; lower is better (not FID)",
            f"{'model':<{width}}{'budget':>7} {'sampler':<13}{'grid':<9}{'steps':>6}{'iters':>6}{'passes':>8}"
            f"{'MMACs':>8}{'ms':>7}{'distance':>10}   95 % interval   floor     KID",
        ]
        lines += [
            f"{r.model:<{width}}{r.budget:>7} {r.sampler:<13}{r.grid:<9}{r.steps:>6}{r.iterations:>6}{r.passes:>8.0f}"
            f"{r.macs / 1e6:>8.0f}{1e3 * r.seconds:>7.1f}{r.distance:>10.3g}"
            f"   {f'{r.distance_low:.3g} to {r.distance_high:.3g}':<16}{r.distance_floor:<8.2g}{r.kid:<8.3g}"
            f"{r.self_guidance_in_words() if r.self_guidance else ''}".rstrip()
            for r in self.rows
        ]
        if any(r.grid.startswith("phi^") for r in self.rows):
            lines.append(PHI)
        return "\n".join(lines)


def read_comparison(folder: Path) -> Comparison:
    """Read the comparison in a folder.

    Raises:
        ValueError: There is none, or it is damaged or not a comparison.
    """
    path = folder / FILE
    expected = "expected a folder made by fpdm compare --out"
    try:
        text = read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"there is no {FILE} in {folder}; {expected}") from None
    try:
        return Comparison.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path} is no comparison: {error}; {expected}") from error


def _dicts(values: object) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []
