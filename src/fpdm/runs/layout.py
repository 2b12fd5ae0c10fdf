"""The names of the files in a run's folder."""

from __future__ import annotations

RECIPE = "recipe.json"
METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
LOSS_CURVE = "loss.png"
SAMPLES = "samples"
README = "README.md"
CHECKPOINTS = "checkpoints"
WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' name
MODEL, EMA, OPTIMIZER = f"model/{WEIGHTS}", f"ema/{WEIGHTS}", "optimizer.safetensors"  # in a checkpoint
DATA, DATA_PICTURE, SKIPPED = "data.json", "data.png", "skipped.txt"
