from .trainer import Trainer as Trainer
from .validation import LossAt as LossAt
from .validation import evaluate_loss as evaluate_loss
