"""Finalise a trained autoencoder: measure its scaling factor, save it in the hub layout, report its reconstructions."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fpdm.autoencoder.config import OWN, AutoencoderConfig
from fpdm.autoencoder.interface import Autoencoder
from fpdm.autoencoder.vae import VAE
from fpdm.configuration import Record
from fpdm.data.images import ImageSet, to_float, to_uint8
from fpdm.data.splits import Splits
from fpdm.drawing.sheets import Row, Sheet, draw_sheet
from fpdm.drawing.text import fenced, markdown
from fpdm.errors import RunError
from fpdm.evaluation.evaluator import Evaluator, with_labels
from fpdm.files import read_json, temporary_folder, write_atomically, write_json
from fpdm.progress_bar import track
from fpdm.runs.progress import Progress
from fpdm.training.autoencoder.config import AutoencoderRecipe
from fpdm.training.autoencoder.trainer import AutoencoderTrainer

REPORT, PICTURE, README = "report.json", "reconstructions.png", "README.md"
COLUMNS, ROW_PAIRS = 12, 3  # of the picture of reconstructions
BATCH = 200  # images at once
FLOOR_IMAGES = 5000  # training images whose reconstructions are compared with the test images


@dataclass(frozen=True)
class LatentStatistics:
    """Statistics of the latents as the network makes them, before they are scaled.

    Attributes:
        mean: Mean over images, positions and channels.
        std: Standard deviation over the same, including the spread of each image's own distribution.
        channel_means: Mean of each channel.
        channel_stds: Standard deviation of each channel.
        posterior_std: Mean standard deviation of an image's own distribution.
    """

    mean: float
    std: float
    channel_means: tuple[float, ...]
    channel_stds: tuple[float, ...]
    posterior_std: float


@dataclass(frozen=True)
class ReconstructionError:
    """Error of reconstructions rounded to 8 bits, with pixels in [0, 1].

    Attributes:
        images: Number of images.
        mse: Mean squared error.
        l1: Mean absolute error.
        psnr: PSNR that corresponds to `mse`, in dB.
        psnr_mean: Mean of the images' own PSNR, in dB; this is larger, and what many tables give.
    """

    images: int
    mse: float
    l1: float
    psnr: float
    psnr_mean: float


@dataclass(frozen=True)
class AutoencoderReport(Record):
    """Report on a trained autoencoder, as in `report.json`.

    Attributes:
        command: The command line.
        recipe: All settings, as in `training.json`.
        progress: How long it was trained.
        parameters: Parameters of the network.
        macs: Multiply-accumulates of encoding and decoding an image.
        sha256: `Autoencoder.sha256`, by which caches of latents identify it.
        scaling_factor: 1 / `latents.std`. It is in config.json with `latents.mean` as the shift factor, because without
            a strong KL term the mean of the latents is as far from zero as they spread.
        latent_shape: Shape (c, h, w) of the latents.
        latents: Statistics of the latents of the training images.
        validation: Error on the validation images.
        test: Error on the test images.
        features: The features of the Fréchet distances, as in a comparison.
        distance: Fréchet distance between the test images and their own reconstructions.
        floor: Fréchet distance between the test images and reconstructions of training images, which a perfect model
            of the latents would reach.
        real_floor: Fréchet distance between the test images and the training images themselves.
        floor_images: Number of training images in both floors.
    """

    command: str
    recipe: dict[str, Any]
    progress: Progress
    parameters: int
    macs: int
    sha256: str
    scaling_factor: float
    latent_shape: tuple[int, int, int]
    latents: LatentStatistics
    validation: ReconstructionError
    test: ReconstructionError
    features: str
    distance: float
    floor: float
    real_floor: float
    floor_images: int

    def to_text(self) -> str:
        """Return a summary in a few lines."""
        done = self.progress
        return "\n".join(
            [
                f"autoencoder of {self.parameters:,} parameters, {done.step} steps in {done.seconds:.0f} s; latents "
                f"{' x '.join(map(str, self.latent_shape))}, standard deviation {self.latents.std:.3g}, scaling factor "
                f"{self.scaling_factor:.4g}",
                f"  error       {self.test.psnr:.2f} dB on {self.test.images} test images (mean of the images' own "
                f"{self.test.psnr_mean:.2f} dB), {self.validation.psnr:.2f} dB on {self.validation.images} for "
                "validation",
                f"  distance    {self.distance:.3g} between test images and their reconstructions in {self.features}",
                f"  floor       {self.floor:.3g} from test images to {self.floor_images} reconstructed training "
                f"images; {self.real_floor:.3g} to these themselves",
            ]
        )


def check_enough_images(splits: Splits[ImageSet]) -> None:
    """Check before training that there are enough images to evaluate an autoencoder.

    Raises:
        ValueError: A split has fewer than 2 images.
    """
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    if min(sizes) < 2:
        raise ValueError(
            f"{sum(sizes)} images are divided into {sizes[0]} to train on, {sizes[1]} to validate and {sizes[2]} to "
            "test; expected at least 2 of each, so about 20 images or more"
        )


def finalise(trainer: AutoencoderTrainer, splits: Splits, *, command: str = "") -> AutoencoderReport:
    """Save a trained autoencoder into its folder and report its reconstruction quality.

    The folder then has the hub's layout (config.json, safetensors, model card), `fpdm.json` with the padding,
    `report.json` and a picture of reconstructions; `AutoencoderConfig(folder).load()` loads it.

    Args:
        trainer: The trainer at the end of its training.
        splits: The images; the first split was trained on.
        command: The command line.

    Raises:
        RunError: The training diverged.
    """
    found = _read(trainer)
    if found is not None:
        return found
    out, latents = trainer.out, save_scaled(trainer, splits.train)
    autoencoder = AutoencoderConfig(str(out)).load(trainer.device)
    validation, test = (reconstructed(autoencoder, part.images) for part in (splits.validation, splits.test))
    judge = Evaluator(splits)
    training = judge.training_images(FLOOR_IMAGES)
    report = AutoencoderReport(
        command=command,
        recipe=json.loads(trainer.recipe.to_json()),
        progress=trainer.progress,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        macs=trainer.macs,
        sha256=autoencoder.sha256,
        scaling_factor=1.0 / latents.std,
        latent_shape=trainer.latent_shape,
        latents=latents,
        validation=reconstruction_error(splits.validation.images, validation),
        test=reconstruction_error(splits.test.images, test),
        features=judge.extractor.name,
        distance=judge.distance(test),
        floor=judge.distance(reconstructed(autoencoder, training)),
        real_floor=judge.distance(training),
        floor_images=len(training),
    )
    sheet = _sheet(with_labels(splits.test, judge.labels(COLUMNS * ROW_PAIRS)), autoencoder, report)
    draw_sheet(sheet).save(out / PICTURE)
    write_atomically(out / README, _card(report, trainer.recipe, splits))
    write_json(out / REPORT, report.to_json())
    return report


def save_scaled(trainer: AutoencoderTrainer, data: ImageSet) -> LatentStatistics:
    """Save the averaged weights into the trainer's folder, with the scaling and shift factors of these images' latents.

    Returns:
        The statistics of the latents before they are scaled.

    Raises:
        RunError: The training diverged.
    """
    out, model = trainer.out, trainer.averaged()
    latents = measure_latents(VAE.of(model, source=str(out), pad=trainer.recipe.shape.pad), data)
    if not 0 < latents.std < math.inf:
        raise RunError(
            f"the latents have standard deviation {latents.std}: the training diverged; start again in another folder, "
            "with a lower --learning-rate"
        )
    model.register_to_config(scaling_factor=1.0 / latents.std, shift_factor=latents.mean)  # type: ignore[operator]
    _save_pretrained(model, trainer.recipe.shape.pad, out)
    return latents


def measure_latents(autoencoder: Autoencoder, data: ImageSet) -> LatentStatistics:
    """Measure the latents' statistics over all images and positions."""
    n, first, second, spread = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for start in track(range(0, len(data), BATCH), "measuring the latents", unit="batches"):
        images = to_float(data.images[start : start + BATCH])  # (B, C, H, W)
        posterior = autoencoder.encode(images)  # (B, c, h, w) each
        mean, std = posterior.mean.double().cpu(), posterior.std.double().cpu()  # (B, c, h, w) each
        n += mean[:, 0].numel()
        first = first + mean.sum((0, 2, 3))  # (c,)
        second = second + (mean.square() + std.square()).sum((0, 2, 3))  # (c,)
        spread = spread + std.mean((1, 2, 3)).sum()
    means, squares = first / n, second / n  # (c,) each
    return LatentStatistics(
        mean=means.mean().item(),
        std=(squares.mean() - means.mean().square()).sqrt().item(),
        channel_means=tuple(means.tolist()),
        channel_stds=tuple((squares - means.square()).sqrt().tolist()),
        posterior_std=spread.item() / len(data),
    )


def reconstructed(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Encode images (N, C, H, W) uint8 to the means of their latents and decode these, (N, C, H, W) uint8."""
    parts = [
        to_uint8(autoencoder.decode(autoencoder.encode(to_float(part)).mean)).cpu()
        for part in track(images.split(BATCH), "reconstructing", unit="batches")
    ]  # of (B, C, H, W)
    return torch.cat(parts)  # (N, C, H, W)


def reconstruction_error(images: Tensor, made: Tensor) -> ReconstructionError:
    """Return the error of reconstructions; both are (N, C, H, W) uint8."""
    difference = (made.double() - images.double()) / 255.0  # (N, C, H, W)
    squared = difference.square().flatten(1).mean(1)  # (N,)
    mse = squared.mean().item()
    # A perfect reconstruction counts as if one pixel were off by one 8-bit step.
    least = 1.0 / 255.0**2 / images[0].numel()
    return ReconstructionError(
        images=len(images),
        mse=mse,
        l1=difference.abs().mean().item(),
        psnr=-10.0 * math.log10(max(mse, least)),
        psnr_mean=(-10.0 * squared.clamp(min=least).log10()).mean().item(),
    )


def _read(trainer: AutoencoderTrainer) -> AutoencoderReport | None:
    """Read the report in the trainer's folder, if it is of this training and the autoencoder beside it is whole."""
    try:
        values = read_json(trainer.out / REPORT)
        same = values["recipe"] == json.loads(trainer.recipe.to_json()) and values["progress"] == asdict(
            trainer.progress
        )
        AutoencoderConfig(str(trainer.out), values["sha256"]).load()
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if not same:
        return None
    values["latents"] = LatentStatistics(**{key: _tuple(value) for key, value in values["latents"].items()})
    values["progress"] = Progress(**values["progress"])
    for name in ("validation", "test"):
        values[name] = ReconstructionError(**values[name])
    return AutoencoderReport(**{key: _tuple(value) for key, value in values.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples


def _save_pretrained(model: torch.nn.Module, pad: int, out: Path) -> None:
    """Save in the hub's layout, each file whole or not at all."""
    with temporary_folder(out) as temporary:
        model.save_pretrained(temporary)  # type: ignore[operator]
        (temporary / OWN).write_text(json.dumps({"pad": pad}), encoding="utf-8")
        for path in sorted(temporary.iterdir()):
            os.replace(path, out / path.name)


def _sheet(images: Tensor, autoencoder: Autoencoder, report: AutoencoderReport) -> Sheet:
    made = reconstructed(autoencoder, images)  # (N, C, H, W)
    rows = []
    for originals, copies in zip(images.split(COLUMNS), made.split(COLUMNS), strict=True):
        rows += [Row("test images", originals), Row("reconstructed", copies)]
    size = " x ".join(map(str, report.latent_shape))
    return Sheet(f"images through latents of {size}: {report.test.psnr:.1f} dB on all test images", rows)


def _card(report: AutoencoderReport, recipe: AutoencoderRecipe, splits: Splits) -> str:
    """Return the model card in the hub's form: Markdown below a YAML header."""
    channels, height, width = splits.train.shape
    train, latents = recipe.train, report.latents
    facts = {
        "Images": f"{splits.train.name}: {len(splits.train)} of {channels} x {height} x {width}",
        "Latents": f"{' x '.join(map(str, report.latent_shape))}, images padded by {recipe.shape.pad} on each side",
        "Network": f"{report.parameters:,} parameters; {report.macs / 1e6:.1f} million multiply-accumulates to encode "
        "and decode an image",
        "Loss": f"{train.reconstruction}, the mean over pixels in [-1, 1], and {train.kl_weight:g} x KL, summed over "
        "latents, over the number of pixels",
        "Training": f"{report.progress.step:,} steps of {train.batch_size} images in {report.progress.seconds:.0f} "
        f"seconds; learning rate {train.learning_rate:g}, {train.decay}; seed {train.seed}; averaged weights",
        "Standard deviation of the latents": f"{latents.std:.4g}, mean {latents.mean:.4g}; 1 / {latents.std:.4g} is "
        "the scaling factor, the mean the shift factor",
        "Error on test images": f"{report.test.psnr:.2f} dB (mean squared error {report.test.mse:.3g}, mean absolute "
        f"error {report.test.l1:.3g}, pixels in [0, 1]; mean of the images' own PSNR {report.test.psnr_mean:.2f} dB)",
        "Error on validation images": f"{report.validation.psnr:.2f} dB",
        "Test images to their reconstructions": f"{report.distance:.3g}, Fréchet distance in {report.features}",
        "Test images to reconstructed training images": f"{report.floor:.3g}, the floor for a model of these latents; "
        f"to these {report.floor_images} images themselves {report.real_floor:.3g}",
    }
    lines = [
        "---\nlibrary_name: diffusers\ntags:\n- autoencoder\n- latent-diffusion\n---\n",
        f"# An autoencoder of {markdown(splits.train.name)}\n",
        "Trained by fpdm for latent diffusion on these images.\n",
        "| | |\n|---|---|",
        *(f"| {name} | {markdown(fact)} |" for name, fact in facts.items()),
        f"\n![Test images above their reconstructions]({PICTURE})\n",
        "## Use\n",
        "```python\nfrom fpdm.autoencoder import AutoencoderConfig\n",
        'autoencoder = AutoencoderConfig("this folder").load()',
        "posterior = autoencoder.encode(images)  # images (B, C, H, W) in [-1, 1]; latents shifted and scaled",
        "images = autoencoder.decode(posterior.mean)\n```\n",
        "diffusers' `AutoencoderKL.from_pretrained` loads the folder too, but does not shift and scale the latents or "
        "pad the images.\n",
    ]
    made = ["## Made by\n", f"{fenced(report.command, 'sh')}\n"] if report.command else []
    return "\n".join([*lines, *made])
