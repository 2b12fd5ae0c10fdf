"""Fixed Point Diffusion Models: a diffusion transformer whose depth is a budget, spent when you sample.

Bai and Melas-Kyriazi, "Fixed Point Diffusion Models", CVPR 2024. The parts: `fpdm.fixed_point`, `fpdm.models`,
`fpdm.diffusion`, `fpdm.sampling`, `fpdm.training`.
"""

__version__ = "0.2.0"
