"""The architecture of a transformer, and its presets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt

from fpdm.configuration import NonNegativeInt, Number, Pixels, PositiveInt, PositiveNumber, Share, configuration

Kind = Literal["fpdm", "dit", "other"]
Recomputed = Literal["none", "blocks", "iterations", "all"]
CHECKPOINTABLE: tuple[str, ...] = get_args(Recomputed)


@configuration
class TransformerConfig:
    """Architecture of a `DiffusionTransformer`; the defaults are the paper's FPDM-XL/2 at 256 pixels.

    Attributes:
        image_size: Height and width of the (latent) image.
        in_channels: Channels of the (latent) image.
        patch_size: Height and width of a patch; must divide the image size.
        width: Width of the hidden states; must be divisible by the number of heads and by 4.
        heads: Number of attention heads.
        pre_blocks: Number of blocks before the middle.
        post_blocks: Number of blocks after the middle.
        middle_kind: Middle of the network: "fixed_point" (FPDM) or "stack" (DiT).
        middle_blocks: Number of blocks in the stack, or in the cell of the fixed point (1 in the paper).
        repeats: Number of times that a stack applies its blocks; more than 1 shares weights at a fixed depth.
        injection: Input injection of the fixed point: "mlp", the paper's, or "linear". A stack has none.
        num_classes: Number of classes K; 0 for an unconditional model. Label K means "no class".
        timestep_everywhere: Condition the pre and post blocks and the head on the timestep too. The paper's FPDM does
            not (Sec. 3.2); a DiT always does.
        learn_variance: Learn the variance too: the head returns twice as many channels, the second half for the
            variance (DiT).
        mlp_ratio: Hidden width of a block's MLP, relative to the width.
        frequency_shift: Shift of the frequencies of the timestep embedding: 0 in DiT's own code, 1 in diffusers.
        norm_eps: Epsilon of the layer norms in the blocks.
        mlp_norm_eps: Epsilon of the layer norms before the MLPs, if it differs, as in diffusers (1e-5); 0 for the same.

    Raises:
        ValueError: A field outside its range.
    """

    image_size: Pixels = 32
    in_channels: PositiveInt = 4
    patch_size: PositiveInt = 2
    width: PositiveInt = 1152
    heads: PositiveInt = 16
    pre_blocks: NonNegativeInt = 1
    post_blocks: NonNegativeInt = 1
    middle_kind: Annotated[Literal["fixed_point", "stack"], "'fixed_point' (FPDM) or 'stack' (DiT)"] = "fixed_point"
    middle_blocks: NonNegativeInt = 1
    repeats: PositiveInt = 1
    injection: Literal["mlp", "linear"] = "mlp"
    num_classes: NonNegativeInt = 1000
    timestep_everywhere: bool = False
    learn_variance: bool = True
    mlp_ratio: Annotated[PositiveNumber, Le(1024)] = 4.0
    frequency_shift: Annotated[Number, Ge(0), Le(1)] = 0.0
    norm_eps: Annotated[Number, Gt(0), Lt(1)] = 1e-6
    mlp_norm_eps: Share = 0.0

    def __post_init__(self) -> None:
        if self.middle_kind == "fixed_point" and not self.middle_blocks:
            raise ValueError("middle_blocks is 0; expected an integer of at least 1")
        if not self.pre_blocks + self.middle_blocks + self.post_blocks:
            raise ValueError("pre_blocks, middle_blocks and post_blocks are all 0; expected at least one block")
        if self.repeats > 1 and self.middle_kind == "fixed_point":
            raise ValueError(
                f"repeats is {self.repeats}; a fixed point is iterated as often as it is asked: expected 1"
            )
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not divisible by patch_size {self.patch_size}")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} is not divisible by both heads ({self.heads}) and 4")
        if self.width * self.mlp_ratio < 1:
            raise ValueError(f"mlp_ratio is {self.mlp_ratio}; expected at least 1 / width")

    @property
    def tokens(self) -> int:
        """Number of tokens, T."""
        return self.side**2

    @property
    def side(self) -> int:
        """Number of tokens along one side of the image."""
        return self.image_size // self.patch_size


_SIZES = {"s": (384, 6, 12), "b": (768, 12, 12), "l": (1024, 16, 24), "xl": (1152, 16, 28)}  # width, heads, blocks


_SMALL = {
    # 16 tokens and DiT's 28 blocks, so that the paper's budgets of 140, 280 and 560 block passes mean the same.
    "digits": TransformerConfig(
        image_size=8, in_channels=1, patch_size=2, width=64, heads=4, num_classes=10, learn_variance=False
    ),
    "fashion": TransformerConfig(
        image_size=28, in_channels=1, patch_size=7, width=128, heads=4, num_classes=10, learn_variance=False
    ),
}


def preset(name: str) -> TransformerConfig:
    """Return the architecture with this name.

    Args:
        name: "fpdm-xl/2", "dit-b/4" and so on (sizes s, b, l, xl; patches 2, 4, 8), for 32 x 32 x 4 latents of 256
            pixels and 1,000 classes; or "fpdm-digits", "dit-fashion" and so on (16 tokens, 28 blocks).

    Raises:
        ValueError: The name is unknown.
    """
    match = re.fullmatch(r"(fpdm|dit)-(?:(s|b|l|xl)/([248])|(digits|fashion))", name.lower())
    if match is None:
        raise ValueError(
            f"there is no model {name!r}; expected fpdm- or dit- and then s, b, l or xl with /2, /4 or /8 "
            "(fpdm-xl/2, dit-s/8), or digits or fashion (fpdm-digits)"
        )
    kind, size, patch, small = match.groups()
    if small:
        shape, blocks = _SMALL[small], 28
    else:
        width, heads, blocks = _SIZES[size]
        shape = TransformerConfig(patch_size=int(patch), width=width, heads=heads)
    return shape if kind == "fpdm" else as_dit(shape, blocks)


def kind_of(shape: Mapping[str, object]) -> Kind:
    """Say what a network is by the values of its `TransformerConfig`: an FPDM, a DiT, or "other".

    Others are weight-tied stacks, and networks of which the values are not known.
    """
    if shape.get("middle_kind") == "fixed_point":
        return "fpdm"
    return "dit" if shape.get("middle_kind") == "stack" and shape.get("repeats", 1) == 1 else "other"


def as_dit(shape: TransformerConfig, blocks: int, *, shared: bool = False) -> TransformerConfig:
    """Return the DiT baseline of an FPDM, which differs only in the middle and sees the timestep everywhere.

    Args:
        shape: Architecture of the FPDM.
        blocks: Depth of the DiT, including pre and post blocks.
        shared: Share one block over the whole middle.

    Raises:
        ValueError: `blocks` is too small for the pre and post blocks, and one block to share.
    """
    inner = blocks - shape.pre_blocks - shape.post_blocks
    if inner < shared:
        least = shape.pre_blocks + shape.post_blocks + shared
        raise ValueError(
            f"a {'shared stack' if shared else 'DiT'} of {blocks} blocks is too shallow; expected at least {least}"
        )
    depth = {"middle_blocks": 1, "repeats": inner} if shared else {"middle_blocks": inner}
    return replace(shape, middle_kind="stack", timestep_everywhere=True, **depth)
