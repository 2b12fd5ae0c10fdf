"""An imported model's folder: a run for our own commands, and the hub's layout for everyone else's."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fpdm import __version__
from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.files import lock, write_atomically
from fpdm.importing.layouts import Converted
from fpdm.importing.source import Source
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, EMA, README, RECIPE, WEIGHTS
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.train_config import TrainConfig

_VAE = "stabilityai/sd-vae-ft-{}"
_FACTOR = 8  # of that autoencoder, in pixels a latent


@dataclass(frozen=True)
class Imported:
    """A model that was imported.

    Attributes:
        source: What it was.
        sha256: Of the file with its weights.
        layout: Whose names it had.
        out: Where it is now.
        parameters: How many.
        prediction: What it predicts.
        autoencoder: What decodes its latents; empty for pixels.
        notes: What was changed on the way.
    """

    source: str
    sha256: str
    layout: str
    out: Path
    parameters: int
    prediction: str
    autoencoder: str
    notes: tuple[str, ...]

    def to_text(self) -> str:
        """A line, and one for each note."""
        latents = f"latents of {self.autoencoder}" if self.autoencoder else "pixels"
        first = (
            f"imported {self.layout} from {self.source}: {self.parameters:,} parameters, predicts {self.prediction}, "
            f"{latents}; the model is in {self.out}"
        )
        return "\n".join([first, *(f"  {note}" for note in self.notes)])

    def to_json(self) -> str:
        """Every field."""
        return json.dumps({**asdict(self), "out": str(self.out)}, indent=1)


def import_model(source: Source, converted: Converted, out: Path, *, autoencoder: str = "") -> Imported:
    """Write a converted model; the same import again finishes one that was interrupted.

    Args:
        source: Where its weights are from.
        converted: The model.
        out: The folder.
        autoencoder: Name or folder of what decodes its latents. If "", that which DiT and the authors used, for a
            model of 4 channels; models of 1 or 3 are of pixels.

    Raises:
        ValueError: The autoencoder cannot be known, or the folder holds another model.
    """
    recipe = _recipe(source, converted, autoencoder)
    with torch.device("meta"):
        model = DiffusionTransformer.from_shape(converted.shape)
    config = model.to_json_string()
    result = Imported(
        source.name,
        source.sha256,
        converted.layout,
        out,
        model.cost().total_parameters,
        converted.schedule.prediction,
        recipe.autoencoder.source,
        converted.notes,
    )
    with lock(out):
        found = checkpoint.latest(out / CHECKPOINTS)
        if found is not None:
            before = (found.path / RECIPE).read_text(encoding="utf-8")
            if found.state.get("imported") != source.sha256 or Recipe.from_json(before) != recipe:
                raise ValueError(f"{out} holds another model; choose another folder")
            folder = found.path
        else:
            state = {**asdict(Progress(step=source.steps)), "imported": source.sha256}
            files = {"ema/config.json": config, RECIPE: recipe.to_json()}
            folder = checkpoint.save(out / CHECKPOINTS, source.steps, {EMA: converted.weights}, files, state)
        write_atomically(out / RECIPE, recipe.to_json())
        write_atomically(out / README, _card(result, converted, recipe))
        _share(folder / EMA, out / WEIGHTS)
        write_atomically(out / "config.json", config)
    return result


def _recipe(source: Source, converted: Converted, autoencoder: str) -> Recipe:
    shape, args = converted.shape, source.args
    latent = bool(autoencoder) or shape.in_channels not in (1, 3)
    if latent and not autoencoder:
        if shape.in_channels != 4:
            raise ValueError(
                f"{source.name} makes latents of {shape.in_channels} channels; say with --autoencoder what decodes them"
            )
        autoencoder = _VAE.format(args["vae"] if args.get("vae") in ("ema", "mse") else "ema")
    elif autoencoder and Path(autoencoder).is_dir():
        folder = Path(autoencoder).resolve()  # wherever the model is used from
        if not any((folder / inner / "config.json").is_file() for inner in ("", "vae")):
            raise ValueError(f"--autoencoder {autoencoder} has no config.json; expected an AutoencoderKL's folder")
        autoencoder = str(folder)
    data = DataConfig(
        UNKNOWN,
        size=shape.image_size * (_FACTOR if latent else 1),
        channels=3 if latent else shape.in_channels,
        conditional=bool(shape.num_classes),
    )
    name = Path(source.name).stem or "imported"
    return Recipe(name, data, shape, _training(args), converted.schedule, AutoencoderConfig(autoencoder))


_ARGS = {
    "global_batch_size": "batch_size",
    "lr": "learning_rate",
    "fixed_point_no_grad_max_iters": "no_grad_iters",
    "fixed_point_with_grad_max_iters": "grad_iters",
}


def _training(args: Mapping[str, Any]) -> TrainConfig:
    """What is known of how it was trained; the rest stands at its default."""
    try:
        return replace(TrainConfig(), **{ours: args[theirs] for theirs, ours in _ARGS.items() if theirs in args})
    except (ValueError, TypeError):  # their numbers need not be in our ranges, and sampling needs none of them
        return TrainConfig()


def _share(file: Path, copy: Path) -> None:
    """The same bytes under another name, without room for them where the file system can do so."""
    copy.unlink(missing_ok=True)
    try:
        os.link(file, copy)
    except OSError:
        shutil.copyfile(file, copy)


def _card(result: Imported, converted: Converted, recipe: Recipe) -> str:
    schedule, folder = converted.schedule, shlex.quote(str(result.out))
    lines = [
        "---\nlibrary_name: diffusers\ntags:\n- fpdm\n- diffusion\n---",
        f"# {recipe.name}\n",
        f"The weights of {result.layout}, imported by fpdm {__version__}. They and their licence are their authors'.\n",
        "| | |\n|---|---|",
        f"| Source | {result.source} |",
        f"| SHA-256 of its file | {result.sha256} |",
        f"| Parameters | {result.parameters:,} |",
        f"| Predicts | {schedule.prediction}, over {schedule.num_timesteps} timesteps of linear betas from "
        f"{schedule.beta_start:g} to {schedule.beta_end:g}, "
        f"{'rescaled to zero terminal SNR' if schedule.zero_terminal_snr else 'not rescaled'} |",
        f"| Works on | {f'latents of {result.autoencoder}' if result.autoencoder else 'pixels'} |",
        "\n## What was converted\n",
        "Names and the order of tensors only: its outputs are the source's, to rounding.",
        *(f"- {note}" for note in result.notes),
        "- The images that it was trained on are not known here, nor all of how it was trained: what `recipe.json` "
        "says under `train` beyond batch size, learning rate and iterations is a default.",
        "- Guidance here is on all channels. Code after GLIDE guides three of four, so a scale of 1.5 there is about "
        "1.375 here.",
        "\n## Use\n",
        f"```sh\nfpdm sample {folder} --out images\n```\n",
        "`config.json` and the safetensors beside it load with `fpdm.models.DiffusionTransformer.from_pretrained`.",
        "",
    ]
    return "\n".join(lines)
