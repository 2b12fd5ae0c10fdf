"""Model cards: the front matter that the hub reads, and how a model is used, for every README that describes one."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import ModelCard, ModelCardData

from fpdm import __version__
from fpdm.drawing.text import fenced, markdown
from fpdm.files import read_text
from fpdm.models.cost import ModelCost
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.pipeline_files import PipelineConfig, class_names

_SHOWN = 8  # names of classes in a card
_GENERATED = "<!-- This card was written by fpdm. Remove this line, and it is not written again. -->"


def with_front_matter(body: str) -> str:
    """Put what the hub reads of a model card before its text."""
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",  # the hub has none for classes
        tags=["fpdm", "diffusion", "fixed-point"],
        inference=False,  # the hub cannot run a pipeline of another package
    )
    return f"---\n{data.to_yaml()}\n---\n{body}"


def model_card(
    config: PipelineConfig, model: DiffusionTransformer, name: str, image_shape: Sequence[int], autoencoder: str
) -> ModelCard:
    """Describe a pipeline that is saved by itself, without the run that trained it.

    Args:
        config: What the pipeline records.
        model: Its network.
        name: Folder of the pipeline, or its name on the hub.
        image_shape: Shape (C, H, W) of its images.
        autoencoder: Autoencoder of its latents; empty for pixels.
    """
    shape, classes = model.shape, class_names(config.id2label, model.shape.num_classes)
    channels, height, width = image_shape
    latents = f", from latents of {shape.in_channels} x {shape.image_size} x {shape.image_size}" if autoencoder else ""
    schedule = config.schedule
    facts = {
        "Images": f"{height} x {width} pixels, {'grey' if channels == 1 else f'{channels} channels'}{latents}",
        "Classes": classes_in_words(classes, shape.num_classes),
        "Network": network_in_words(model.cost()),
        "Iterations in training": f"{model.config['iterations']} on average",
        "Predicts": f"{schedule.prediction}, over {schedule.num_timesteps} timesteps, "
        f"{'ending in pure noise (zero terminal SNR)' if schedule.zero_terminal_snr else 'not ending in pure noise'}",
        "Saved with": versions(),
    }
    body = "\n".join(
        [
            _GENERATED,
            "",
            f"# {markdown(config.name)}",
            "",
            "A diffusion transformer of the package fpdm (Fixed Point Diffusion Models, Bai and Melas-Kyriazi, CVPR "
            "2024). Neither its training images nor its licence are recorded here.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {title} | {fact} |" for title, fact in facts.items()),
            "",
            *usage(name, classes, shape.num_classes),
            "",
        ]
    )
    return ModelCard(with_front_matter(body), ignore_metadata_errors=True)


def is_generated(card: Path) -> bool:
    """Whether a model card is one that `model_card` wrote and nobody has made their own."""
    try:
        return _GENERATED in read_text(card)
    except ValueError:
        return False


def usage(name: str, classes: Sequence[str], num_classes: int) -> list[str]:
    """Return the lines of a section on how to sample a model.

    Args:
        name: Folder of the model, or its name on the hub.
        classes: Names of its classes; none if they are unknown.
        num_classes: Number of its classes.
    """
    label = repr(classes[0]) + ", " if classes else "0, " if num_classes else ""
    code = f"""from fpdm import FPDMPipeline

pipe = FPDMPipeline.from_pretrained({name!r})
image = pipe({label}budget=140).images[0]"""
    return [
        "## Use",
        "",
        fenced(code, "python"),
        "",
        "or, without Python:",
        "",
        fenced(f"fpdm sample {shlex.quote(name)} --budget 140 --num-images 64 --out images", "sh"),
        "",
        "`diffusers.DiffusionPipeline.from_pretrained` loads it too, with `trust_remote_code=True`; the Python files "
        "here only import from fpdm.",
    ]


def network_in_words(cost: ModelCost) -> str:
    """Describe the size and the cost of a network."""
    passes = f"{cost.passes(cost.middle.iterations.start)} block passes"
    if cost.middle.adjustable:
        passes = f"{cost.explicit} block passes and {cost.middle.passes} more for each iteration of its middle"
    return f"{cost.total_parameters:,} parameters; an evaluation takes {passes}"


def classes_in_words(classes: Sequence[str], num_classes: int) -> str:
    """Describe the classes of a model."""
    if not num_classes:
        return "none"
    named = ", ".join(map(markdown, classes[:_SHOWN]))
    return f"{num_classes}" + (f": {named}{', ...' if len(classes) > _SHOWN else ''}" if classes else "")


def versions() -> str:
    """Return the versions of this package and of what it runs on."""
    return f"fpdm {__version__}, Python {platform.python_version()}, torch {torch.__version__}"
