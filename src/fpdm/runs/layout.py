"""The names of the files in a run's folder, and the kinds of folder that are made with a run."""

from __future__ import annotations

from pathlib import Path

from fpdm.outputs import OutputFolder

RECIPE = "recipe.json"
METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
LOGS = (METRICS, VALIDATION)
LOSS_CURVE = "loss.png"
SAMPLES = "samples"
TENSORBOARD = "tensorboard"
README = "README.md"
CHECKPOINTS = "checkpoints"
FOLDERS = (CHECKPOINTS, SAMPLES, TENSORBOARD)
WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' name
MODEL, EMA, OPTIMIZER = f"model/{WEIGHTS}", f"ema/{WEIGHTS}", "optimizer.safetensors"  # in a checkpoint
DATA, DATA_PICTURE, SKIPPED = "data.json", "data.png", "skipped.txt"
SAMPLING = "sampling.json"  # beside images: how they were sampled; beside a model: how it is to be sampled
CHOICE = "choice.json"  # how training on a folder of images was decided on
OWN_AUTOENCODER, OWN_LATENTS = "autoencoder", "latents"  # made by such a training
# The layout of the hub, which diffusers loads as a pipeline.
MODEL_INDEX, PIPELINE_CODE = "model_index.json", "pipeline.py"
TRANSFORMER, SCHEDULER, VAE = "transformer", "scheduler", "vae"
SCHEDULER_CONFIG, CONFIG = f"{SCHEDULER}/scheduler_config.json", "config.json"

SHIPPED = Path(__file__).parents[1] / "shipped"
"""Folder with one folder in the hub's layout for each model that comes with the package."""


def folders_of(run: Path) -> dict[str, Path]:
    """Return the folders that a training writes below its own, in which no other command may write."""
    names = (*FOLDERS, TRANSFORMER, SCHEDULER, OWN_AUTOENCODER, OWN_LATENTS)
    return {f"run's {name}": run / name for name in names}


RUN = OutputFolder(
    "train", RECIPE, frozenset({"model", "train"}), frozenset({RECIPE, DATA, DATA_PICTURE, SKIPPED, METRICS, CHOICE})
)
IMPORTED = OutputFolder("import", RECIPE, frozenset({"model", "train"}))
SAMPLED = OutputFolder("sample", SAMPLING, frozenset({"plan", "seed", "class"}), frozenset({SAMPLING}))
EXPORT = "model.json"
EXPORTED = OutputFolder("export", EXPORT, frozenset({"graphs", "schedule", "plan"}))
