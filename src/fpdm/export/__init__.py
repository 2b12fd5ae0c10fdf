"""Export of models to graphs that other runtimes run, with the depth still to be chosen."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
