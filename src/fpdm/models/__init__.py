"""The denoising network: one transformer, with a fixed point (FPDM) or a stack of blocks (DiT) in its middle."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
