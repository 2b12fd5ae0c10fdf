"""The pipeline of a Fixed Point Diffusion Model, from the package fpdm, which has to be installed.

DiffusionPipeline.from_pretrained imports this file if it is given trust_remote_code=True.
"""

from fpdm import FPDMPipeline

__all__ = ["FPDMPipeline"]
