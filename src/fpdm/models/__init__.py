"""The denoising network: one transformer, with a fixed point (FPDM) or a stack of blocks (DiT) in its middle."""

from fpdm.models.block import DiTBlock, Modulation
from fpdm.models.cost import ModelCost
from fpdm.models.middle import BlockStack, Context, FixedPointLayer, Middle, MiddleCost
from fpdm.models.transformer import CHECKPOINTABLE, DiffusionTransformer, Prediction, TransformerConfig, as_dit, preset
from fpdm.models.warm_start import start_from

__all__ = [
    "CHECKPOINTABLE",
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
    "start_from",
]
