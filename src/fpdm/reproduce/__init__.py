"""Reproduction of the paper's tables and figures at a small size, one module each."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
