"""Load models by whatever names them: a run, a folder in the hub's layout, a name on the hub, or a shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import did_you_mean
from fpdm.hub import download, is_hub_id
from fpdm.models.config import TransformerConfig
from fpdm.runs.layout import CHECKPOINTS, MODEL_INDEX, SAMPLING, SCHEDULER, SHIPPED, TRANSFORMER, VAE
from fpdm.runs.pipeline_files import read_index, read_network
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import Run, load_run
from fpdm.runs.train_config import TrainConfig


def load_model(name: str | Path, *, autoencoder: str = "") -> Run:
    """Load a model by whatever names it.

    Args:
        name: Folder of a run, folder in the hub's layout, name of a model that comes with the package, or name on the
            hub, from which it is downloaded.
        autoencoder: Path or hub id of the autoencoder, if it is no longer where the model recorded it.

    Raises:
        ValueError: There is no such model, or it is not one of ours.
        CheckpointError: Its weights are damaged.
    """
    folder = find_model(name)
    if is_run(folder):
        return load_run(folder, autoencoder=autoencoder)
    config, network = read_index(folder), read_network(folder)
    shape, source = network.model.shape, config.autoencoder
    if (folder / VAE).is_dir():
        source = AutoencoderConfig(str((folder / VAE).resolve()), source.sha256, source.pad)
    recipe = recipe_without_data(config.name, shape, config.schedule, source)
    return Run(recipe, network.model.eval(), Progress(), network.sha256, autoencoder, folder)


def find_model(name: str | Path, **options: Any) -> Path:
    """Return the folder of a model, after downloading it if it has a name on the hub.

    Args:
        name: As in `load_model`.
        options: Arguments of `huggingface_hub.snapshot_download`, such as `revision`.

    Raises:
        ValueError: There is no such model, or it is not one of ours.
    """
    shipped = {path.name: path for path in SHIPPED.glob("*") if path.is_dir()}
    if str(name) and Path(name).is_dir():
        return Path(name)
    if str(name) in shipped:
        return shipped[str(name)]
    if str(name) and Path(name).exists():
        raise ValueError(f"{name} is a file; expected the folder of a run or of a model")
    if is_hub_id(str(name)):
        return _download(str(name), options)
    known = f", {' or '.join(sorted(shipped))}" if shipped else ""
    raise ValueError(
        f"there is no model {str(name)!r}; expected a folder written by fpdm train or fpdm import{known}, or a name on "
        f"the hub, such as owner/model{did_you_mean(str(name), shipped)}"
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is to be read as a run, and not in the hub's layout."""
    return (folder / CHECKPOINTS).exists() or not (folder / MODEL_INDEX).exists()


def _download(name: str, options: dict[str, Any]) -> Path:
    folder = download(name, [MODEL_INDEX], **options)
    if not (folder / MODEL_INDEX).is_file():
        raise ValueError(f"{name} has no {MODEL_INDEX}; expected a model of fpdm (fpdm import converts those of DiT)")
    read_index(folder)  # raises before anything large is downloaded
    files = [f"{part}/{file}" for part in (TRANSFORMER, VAE) for file in ("*.json", "*.safetensors")]
    return download(name, [MODEL_INDEX, SAMPLING, f"{SCHEDULER}/*.json", *files], **options)


def recipe_without_data(
    name: str,
    shape: TransformerConfig,
    schedule: Schedule,
    autoencoder: AutoencoderConfig,
    train: TrainConfig | None = None,
) -> Recipe:
    """Return the recipe of a model whose training images are not known.

    Args:
        name: Name of the model.
        shape: Its architecture.
        schedule: Its noise schedule.
        autoencoder: Autoencoder of its latents.
        train: What is known of its training.
    """
    latent = bool(autoencoder.source)
    data = DataConfig(
        UNKNOWN,
        size=shape.image_size * (_FACTOR if latent else 1),
        channels=3 if latent else shape.in_channels,  # type: ignore[arg-type]  # it is checked
        conditional=bool(shape.num_classes),
    )
    return Recipe(name, data, shape, train or TrainConfig(), schedule, autoencoder)


_FACTOR = 8  # pixels per latent of the autoencoder of Stable Diffusion, in each direction
