"""The denoising network: one transformer, with a fixed point (FPDM) or a stack of blocks (DiT) in its middle."""

from fpdm.models.block import DiTBlock, Modulation
from fpdm.models.cost import ModelCost
from fpdm.models.middle import BlockStack, Context, FixedPointLayer, Middle, MiddleCost
from fpdm.models.transformer import DiffusionTransformer, Prediction, TransformerConfig, as_dit, preset

__all__ = [
    "BlockStack",
    "Context",
    "DiTBlock",
    "DiffusionTransformer",
    "FixedPointLayer",
    "Middle",
    "MiddleCost",
    "ModelCost",
    "Modulation",
    "Prediction",
    "TransformerConfig",
    "as_dit",
    "preset",
]
