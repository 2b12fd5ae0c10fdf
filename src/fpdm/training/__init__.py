"""Training: recipes, the loop, and checkpoints that survive."""

from fpdm.training.config import Recipe, TrainConfig
from fpdm.training.loop import Progress, Run, Trainer, load_run

__all__ = ["Progress", "Recipe", "Run", "TrainConfig", "Trainer", "load_run"]
