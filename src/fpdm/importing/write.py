"""Writer of an imported model's folder: a run for our own commands, in the layout of the hub for other libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fpdm import __version__
from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import kl_folder
from fpdm.configuration import Record
from fpdm.drawing.text import markdown
from fpdm.files import write_atomically, write_json
from fpdm.hub import is_hub_id
from fpdm.importing.foreign import ForeignCheckpoint
from fpdm.importing.layouts import Converted
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs import checkpoint
from fpdm.runs.layout import CHECKPOINTS, EMA, IMPORTED, README, RECIPE
from fpdm.runs.model_card import classes_in_words, usage, with_front_matter
from fpdm.runs.pipeline_files import PipelineConfig, class_names, publish
from fpdm.runs.pretrained import recipe_without_data
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.sampling_file import keep_sampling
from fpdm.runs.train_config import TrainConfig

_VAE = "stabilityai/sd-vae-ft-{}"


@dataclass(frozen=True)
class Imported(Record):
    """Summary of an imported model.

    Attributes:
        source: Name or path of the checkpoint.
        sha256: SHA-256 of the file with the weights.
        layout: Description of the original layout.
        out: Folder of the imported model.
        parameters: Number of parameters.
        prediction: What the model predicts, "v" or "epsilon".
        autoencoder: Autoencoder of the model's latents; empty for pixels.
        notes: Changes made by the conversion.
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
        """Format the summary as a line of text, plus one for each note."""
        latents = f"latents of {self.autoencoder}" if self.autoencoder else "pixels"
        first = (
            f"imported {self.layout} from {self.source}: {self.parameters:,} parameters, predicts {self.prediction}, "
            f"{latents}; the model is in {self.out}"
        )
        return "\n".join([first, *(f"  {note}" for note in self.notes)])


def import_model(foreign: ForeignCheckpoint, converted: Converted, out: Path, *, autoencoder: str = "") -> Imported:
    """Write a converted model. Repeating an import that was interrupted completes it.

    Args:
        foreign: The original checkpoint.
        converted: The converted model.
        out: Folder to write to.
        autoencoder: Hub id or folder of the autoencoder of the model's latents. By default, models of 4 channels use
            the one of DiT and of the FPDM authors, and models of 1 or 3 channels work on pixels.

    Raises:
        ValueError: The autoencoder is not known, or the folder contains another model.
    """
    recipe = _recipe(foreign, converted, autoencoder)
    with torch.device("meta"):
        model = DiffusionTransformer.from_shape(converted.shape, iterations=recipe.train.mean_iterations)
    config = model.to_json_string()
    result = Imported(
        foreign.name,
        foreign.sha256,
        converted.layout,
        out,
        model.cost().total_parameters,
        converted.schedule.prediction,
        recipe.autoencoder.source,
        converted.notes,
    )
    pipeline = PipelineConfig(recipe.name, recipe.schedule, dict(foreign.id2label), recipe.autoencoder)
    with IMPORTED.hold(out):
        found = checkpoint.latest(out / CHECKPOINTS)
        if found is not None:
            if found.state.get("imported") != foreign.sha256 or Recipe.read(found.file(RECIPE)) != recipe:
                raise ValueError(f"{out} contains another model; choose another folder")
            folder = found.path
        else:
            state = {**asdict(Progress(step=foreign.steps)), "imported": foreign.sha256}
            files = {"ema/config.json": config, RECIPE: recipe.to_json()}
            folder = checkpoint.save(out / CHECKPOINTS, foreign.steps, {EMA: converted.weights}, files, state)
        write_json(out / RECIPE, recipe.to_json())
        write_atomically(out / README, _model_card(result, converted, pipeline))
        publish(out, folder, pipeline)
        keep_sampling(out, recipe)
    return result


def _recipe(foreign: ForeignCheckpoint, converted: Converted, autoencoder: str) -> Recipe:
    shape, args = converted.shape, foreign.args
    latent = bool(autoencoder) or shape.in_channels not in (1, 3)
    if latent and not autoencoder:
        if shape.in_channels != 4:
            raise ValueError(
                f"{foreign.name} makes latents of {shape.in_channels} channels; give --autoencoder to decode them"
            )
        autoencoder = _VAE.format(args["vae"] if args.get("vae") in ("ema", "mse") else "ema")
    elif autoencoder and Path(autoencoder).is_dir():
        kl_folder(autoencoder)  # raises if it is something else
        autoencoder = str(Path(autoencoder).resolve())  # valid from any working directory
    elif autoencoder and not is_hub_id(autoencoder):
        raise ValueError(f"--autoencoder {autoencoder} does not exist; expected a folder or a name on the hub")
    name = Path(foreign.name).stem or "imported"
    return recipe_without_data(name, shape, converted.schedule, AutoencoderConfig(autoencoder), _training(args))


_ARGS = {
    "global_batch_size": "batch_size",
    "lr": "learning_rate",
    "fixed_point_no_grad_max_iters": "no_grad_iters",
    "fixed_point_with_grad_max_iters": "grad_iters",
}


def _training(args: Mapping[str, Any]) -> TrainConfig:
    """Collect what the arguments say about the training; everything else is a default."""
    try:
        return replace(TrainConfig(), **{ours: args[theirs] for theirs, ours in _ARGS.items() if theirs in args})
    except (ValueError, TypeError):  # their values may be outside our ranges, and sampling needs none of them
        return TrainConfig()


def _model_card(result: Imported, converted: Converted, pipeline: PipelineConfig) -> str:
    schedule, num_classes = converted.schedule, converted.shape.num_classes
    classes = class_names(pipeline.id2label, num_classes)
    lines = [
        f"# {markdown(pipeline.name)}\n",
        f"Weights of {result.layout}, imported by fpdm {__version__}. The licence of the original weights applies.\n",
        "| | |\n|---|---|",
        f"| Source | {markdown(result.source)} |",
        f"| SHA-256 of its file | {result.sha256} |",
        f"| Parameters | {result.parameters:,} |",
        f"| Classes | {classes_in_words(classes, num_classes)} |",
        f"| Predicts | {schedule.prediction}, over {schedule.num_timesteps} timesteps of linear betas from "
        f"{schedule.beta_start:g} to {schedule.beta_end:g}, "
        f"{'rescaled to zero terminal SNR' if schedule.zero_terminal_snr else 'not rescaled'} |",
        f"| Works on | {f'latents of {markdown(result.autoencoder)}' if result.autoencoder else 'pixels'} |",
        "\n## What was converted\n",
        "Only the names and the arrangement of tensors: the outputs are those of the source, up to rounding.",
        *(f"- {markdown(note)}" for note in result.notes),
        "- The training images are not known, and the training only in part: in `recipe.json`, all values under "
        "`train` but batch size, learning rate and iterations are defaults.",
        "- Guidance acts on all channels. Code derived from GLIDE guides three of four, so a scale of 1.5 there is "
        "about 1.375 here.\n",
        *usage(str(result.out), classes, num_classes),
        "",
    ]
    return with_front_matter("\n".join(lines))
