"""The diffusion process: noise schedule, conversions and training objective, independent of any network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
