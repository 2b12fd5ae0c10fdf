"""Cost of a model in parameters, exact multiply-accumulates (MACs) and block passes."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from fpdm.models.config import TransformerConfig


@dataclass(frozen=True)
class MiddleCost:
    """Cost of a model's middle, per sample.

    Attributes:
        iterations: Numbers of iterations that the middle supports.
        passes: Block passes per iteration.
        prepare: MACs spent once per timestep.
        iterate: MACs per iteration.
        weak_depths: Depths of weaker answers that the middle can give; empty if it has none.
        weak_depth: The depth of those that is used unless another is asked for.
    """

    iterations: range
    passes: int
    prepare: int
    iterate: int
    weak_depths: range
    weak_depth: int

    @property
    def adjustable(self) -> bool:
        """Whether the number of iterations can be chosen at sampling time."""
        return len(self.iterations) > 1

    def weak_iterations(self, depth: int, *, cold: bool) -> int:
        """Count the iterations that a weaker answer of this depth takes besides those of the answer itself.

        A stack passes the weaker answer on its way; a solve that starts cold shares its first iterate.
        """
        return depth - (cold and depth > 0) if self.adjustable else 0


@dataclass(frozen=True)
class ModelCost:
    """Cost of a model's parts, per sample.

    A MAC is one multiply-accumulate of a linear layer, a convolution or an attention product; elementwise operations
    are not counted. A block pass is one transformer block applied to all tokens, the paper's unit (Sec. 4.2), which
    leaves out the input injection although an iteration of FPDM-XL/2 costs 1.32 times a DiT block.

    Attributes:
        parameters: Number of parameters by part.
        macs: MACs by part of everything but the middle.
        explicit: Block passes outside the middle: pre and post blocks.
        post: Those of them after the middle.
        answer: MACs of the post blocks and the head for another hidden state under the same conditioning.
        middle: Cost of the middle.
    """

    parameters: dict[str, int]
    macs: dict[str, int]
    explicit: int
    post: int
    answer: int
    middle: MiddleCost

    @property
    def total_parameters(self) -> int:
        """Number of parameters, without the fixed position table."""
        return sum(self.parameters.values())

    def passes(self, iterations: int) -> int:
        """Count the block passes of one evaluation with `iterations` iterations (footnote 4)."""
        return self.explicit + iterations * self.middle.passes

    def evaluation_macs(self, iterations: float) -> float:
        """Count the MACs of one evaluation per sample with `iterations` iterations, which may be a fractional mean."""
        return sum(self.macs.values()) + self.middle.prepare + iterations * self.middle.iterate

    def weak_passes(self, iterations: int) -> int:
        """Count the block passes of a weaker answer that takes `iterations` iterations of its own."""
        return self.post + iterations * self.middle.passes

    def weak_macs(self, iterations: float) -> float:
        """Count the MACs of a weaker answer that takes `iterations` iterations of its own, per sample."""
        return self.answer + iterations * self.middle.iterate

    def training_macs(self, iterations: float, no_grad_iterations: float) -> float:
        """Count the MACs of a training step per sample; a backward pass costs as much as two forward passes."""
        return 3 * self.evaluation_macs(iterations) - 2 * no_grad_iterations * self.middle.iterate


def model_cost(shape: TransformerConfig) -> ModelCost:
    """Compute the cost of the model of this shape from closed formulas, without building the model."""
    D, T = shape.width, shape.tokens
    hidden = int(D * shape.mlp_ratio)
    patch = shape.patch_size**2 * shape.in_channels
    out = patch * (2 if shape.learn_variance else 1)
    # A block has four attention matrices, two in the MLP, and one for six modulations, applied once per timestep.
    weights, modulation = 4 * D**2 + 2 * D * hidden, 6 * D**2
    block = weights + 5 * D + hidden + modulation + 6 * D
    block_macs = T * (weights + 2 * T * D)
    timestep = 256 * D + D**2
    explicit = {"pre": shape.pre_blocks, "post": shape.post_blocks}
    if shape.middle_kind == "stack":
        injection = 0
        depth = shape.middle_blocks * shape.repeats
        middle = MiddleCost(
            iterations=range(depth, depth + 1),
            passes=1,
            prepare=shape.middle_blocks * modulation,
            iterate=block_macs if depth else 0,
            weak_depths=range(depth),
            weak_depth=0,
        )
    else:
        # The part of the injection that is constant over the iterations is applied once per timestep.
        once, each, biases = {"mlp": (3 * D**2, 4 * D**2, 4 * D), "linear": (D**2, D**2, D)}[shape.injection]
        injection = once + each + biases
        middle = MiddleCost(
            iterations=range(1, sys.maxsize),
            passes=shape.middle_blocks,
            prepare=T * once + shape.middle_blocks * modulation,
            iterate=T * each + shape.middle_blocks * block_macs,
            weak_depths=range(sys.maxsize),
            # The linear injection hands the state on, so that the start is an answer already.
            weak_depth={"mlp": 1, "linear": 0}[shape.injection],
        )
    return ModelCost(
        parameters={
            "embed": (patch + 1) * D,
            "conditioning": timestep + 2 * D + (shape.num_classes + 1) * D,
            "pre": shape.pre_blocks * block,
            "middle": shape.middle_blocks * block + injection,
            "post": shape.post_blocks * block,
            "head": 2 * D**2 + 2 * D + out * (D + 1),
        },
        macs={
            "embed": T * patch * D,
            "conditioning": timestep,
            **{part: count * (block_macs + modulation) for part, count in explicit.items()},
            "head": T * out * D + 2 * D**2,
        },
        explicit=shape.pre_blocks + shape.post_blocks,
        post=shape.post_blocks,
        answer=shape.post_blocks * block_macs + T * out * D,
        middle=middle,
    )
