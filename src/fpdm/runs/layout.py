"""The names of the files in a run's folder, and the kinds of folder that are made with a run."""

from __future__ import annotations

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
SAMPLING = "sampling.json"

RUN = OutputFolder(
    "train", RECIPE, frozenset({"model", "train"}), frozenset({RECIPE, DATA, DATA_PICTURE, SKIPPED, METRICS})
)
IMPORTED = OutputFolder("import", RECIPE, frozenset({"model", "train"}))
SAMPLED = OutputFolder("sample", SAMPLING, frozenset({"plan", "seed", "class"}), frozenset({SAMPLING}))
