"""Fixed Point Diffusion Models: a diffusion transformer whose depth is a budget, spent when you sample.

Bai and Melas-Kyriazi, "Fixed Point Diffusion Models", CVPR 2024. The parts: `fpdm.fixed_point`, `fpdm.models`,
`fpdm.diffusion`, `fpdm.sampling`, `fpdm.training`. Nothing heavy is imported before it is used.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
