"""The files of a pipeline of diffusers: written beside a run's checkpoints, and read from a folder.

The Python files among them only import from this package; diffusers asks for `trust_remote_code=True` before it
executes them, and nothing in this package does.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from fpdm import __version__
from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.configuration import configuration, from_values
from fpdm.diffusion.schedule import Schedule
from fpdm.files import read_json, sha256_of, write_atomically
from fpdm.memory import check_memory
from fpdm.models.config import TransformerConfig
from fpdm.models.cost import model_cost
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs import checkpoint
from fpdm.runs.layout import (
    CONFIG,
    EMA,
    MODEL_INDEX,
    PIPELINE_CODE,
    SCHEDULER,
    SCHEDULER_CONFIG,
    TRANSFORMER,
    VAE,
    WEIGHTS,
)
from fpdm.sampling.schedulers import default_scheduler
from fpdm.tensors import read_tensors

PIPELINE, NETWORK = "FPDMPipeline", "DiffusionTransformer"
_NETWORK_MODULE = "fpdm_transformer"  # not the name of a package, which the file would hide
_CODE = '''"""The {what} of a Fixed Point Diffusion Model, from the package fpdm, which has to be installed.

DiffusionPipeline.from_pretrained imports this file if it is given trust_remote_code=True.
"""

from {module} import {name}

__all__ = ["{name}"]
'''


@configuration
class PipelineConfig:
    """Content of a pipeline's `model_index.json` besides its components.

    Attributes:
        name: Name of the model.
        schedule: Noise schedule that the network was trained with.
        id2label: Names of the classes by their numbers, as texts; empty if they are unknown or there are none.
        autoencoder: Autoencoder of the model's latents; by default pixels.
    """

    name: str
    schedule: Schedule
    id2label: dict[str, str]
    autoencoder: AutoencoderConfig


def id2label(classes: Sequence[str]) -> dict[str, str]:
    """Return the names of classes by their numbers, as diffusers' pipelines record them."""
    return {str(label): name for label, name in enumerate(classes)}


def class_names(id2label: Mapping[str, str], num_classes: int) -> tuple[str, ...]:
    """Return the names of all classes in the order of their numbers; none if one is missing."""
    names = [id2label.get(str(label)) for label in range(num_classes)]
    return tuple(name for name in names if name is not None) if None not in names else ()


def write_pipeline(out: Path, config: PipelineConfig, scheduler: Any = None, *, vae: bool = False) -> None:
    """Write everything of a pipeline's folder but the weights and the model card.

    Args:
        out: The folder, which exists.
        config: What the pipeline records.
        scheduler: Its scheduler; None for the default one.
        vae: Whether the folder has the autoencoder, in `vae/`.
    """
    from diffusers import __version__ as diffusers_version

    clip = not config.autoencoder.source
    scheduler = scheduler or default_scheduler(config.schedule, clip=clip)
    index = {
        "_class_name": [PIPELINE_CODE.removesuffix(".py"), PIPELINE],
        "_diffusers_version": diffusers_version,
        "_fpdm_version": __version__,
        **asdict(config),
        SCHEDULER: ["diffusers", type(scheduler).__name__],
        TRANSFORMER: [_NETWORK_MODULE, NETWORK],
        VAE: ["diffusers", "AutoencoderKL"] if vae else [None, None],
    }
    files = {
        SCHEDULER_CONFIG: scheduler.to_json_string(),
        PIPELINE_CODE: _CODE.format(what="pipeline", module="fpdm", name=PIPELINE),
        f"{TRANSFORMER}/{_NETWORK_MODULE}.py": _CODE.format(what="network", module="fpdm", name=NETWORK),
        MODEL_INDEX: json.dumps(index, indent=2) + "\n",
    }
    for name, text in files.items():
        (out / name).parent.mkdir(exist_ok=True)
        write_atomically(out / name, text)


def publish(out: Path, folder: Path, config: PipelineConfig) -> None:
    """Make a run's folder the pipeline of one of its checkpoints, whose file of weights it shares.

    Args:
        out: The run's folder.
        folder: The checkpoint's folder.
        config: What the pipeline records.
    """
    write_pipeline(out, config)
    for name in (CONFIG, WEIGHTS):
        _link_or_copy(folder / EMA.replace(WEIGHTS, name), out / TRANSFORMER / name)


def _link_or_copy(file: Path, copy: Path) -> None:
    """Replace a file by another name of the same content, or by a copy where the file system has no such thing."""
    temporary = copy.with_name(f".{uuid.uuid4().hex}")
    try:
        try:
            os.link(file, temporary)
        except OSError:
            shutil.copyfile(file, temporary)
        os.replace(temporary, copy)
    finally:
        temporary.unlink(missing_ok=True)  # which is still there if both were the same file before


def read_index(folder: Path) -> PipelineConfig:
    """Read what a pipeline recorded.

    Raises:
        ValueError: It is not a pipeline of ours, or its record is damaged.
    """
    path = folder / MODEL_INDEX
    values = read_json(path)
    kind = values.get("_class_name")
    kind = kind[-1] if isinstance(kind, list) and kind else kind
    if kind != PIPELINE:
        raise ValueError(f"{folder} is a {kind}; expected a {PIPELINE} (fpdm import converts models of DiT)")
    known = ("name", "schedule", "id2label", "autoencoder")
    try:
        return from_values(PipelineConfig, {key: values[key] for key in known if key in values}, "it")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class Network(NamedTuple):
    """A network from a folder in the hub's layout, and the SHA-256 of the file with its weights."""

    model: DiffusionTransformer
    sha256: str


def read_network(folder: Path) -> Network:
    """Read the network of a pipeline, or a network by itself, strictly: every weight is there, and nothing else.

    Raises:
        ValueError: There is none, or it is not one of ours.
        CheckpointError: Its weights do not fit its configuration, or are not finite.
    """
    inner = folder / TRANSFORMER if (folder / TRANSFORMER).is_dir() else folder
    path = inner / WEIGHTS
    if not path.is_file() and (inner / CONFIG).is_file():
        _check_one_file(inner)
    if not path.is_file() or not (inner / CONFIG).is_file():
        raise ValueError(f"{inner} has no {CONFIG} and {WEIGHTS}; convert a foreign checkpoint with fpdm import")
    values = read_json(inner / CONFIG)
    if values.get("_class_name") != NETWORK:
        raise ValueError(f"{inner} is a {values.get('_class_name')}; expected one of ours; convert it with fpdm import")
    fields = {name: value for name, value in values.items() if not name.startswith("_")}
    iterations = {name: fields.pop(name) for name in ("iterations",) if name in fields}
    try:
        shape = from_values(TransformerConfig, fields, "it")
        cost = model_cost(shape)
        check_memory(cost.weights_memory, f"a model of {cost.total_parameters:.3g} parameters", "a smaller one")
        model, weights = DiffusionTransformer.without_weights(shape, **iterations), read_tensors(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"the model in {inner} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    checkpoint.check_names(path, weights, dict(model.named_parameters()))
    model.take_weights(weights)
    return Network(model, sha256_of(path))


def _check_one_file(folder: Path) -> None:
    """Raise a `ValueError` that says what to do with weights that diffusers would find under another name."""
    stem, ending = WEIGHTS.split(".")
    if (folder / f"{WEIGHTS}.index.json").is_file():
        raise ValueError(f"{folder} has its weights in several files; save it again without max_shard_size")
    variants = sorted(path.name.split(".")[1] for path in folder.glob(f"{stem}.*.{ending}"))
    if variants:
        raise ValueError(
            f"{folder} has only the variant {variants[0]!r} of its weights; give FPDMPipeline.from_pretrained "
            f"variant={variants[0]!r}, or save it without a variant"
        )
