"""Training: recipes, the loop, and checkpoints that survive."""

from fpdm.training.config import Recipe, TrainConfig, WarmStart
from fpdm.training.loop import Trainer
from fpdm.training.progress import Progress
from fpdm.training.run import Run, load_run
from fpdm.training.validation import LossAt, evaluate_loss

__all__ = ["LossAt", "Progress", "Recipe", "Run", "TrainConfig", "Trainer", "WarmStart", "evaluate_loss", "load_run"]
