"""Images and latents to train on and to be judged by, and the order in which a run sees them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
