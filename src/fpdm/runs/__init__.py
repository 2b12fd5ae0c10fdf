"""A run on disk: recipe, weights, checkpoints, logs, data card. Importable without the trainer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
