"""Cost of a model in parameters, exact multiply-accumulates (MACs) and block passes."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from fpdm.models.config import TransformerConfig

BYTES = 4  # of a weight or an activation in float32
_OBJECTS = 2**14  # bytes that PyTorch's objects of a block take besides its weights


@dataclass(frozen=True)
class Activations:
    """Numbers of activations of one sample, counted low, so that whatever does not fit really does not.

    Attributes:
        alive: Those that exist at once in a block, without gradients.
        block: Those that a block keeps for its backward pass.
        tokens: Those that it keeps if it is recomputed: its input.
        iteration: Those that an iteration of the middle keeps.
        around: Those that exist besides a block's at the peak of an evaluation without gradients.
    """

    alive: int
    block: int
    tokens: int
    iteration: int
    around: int


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

    def weak_iterations(self, depth: int, *, cold: float) -> float:
        """Count the iterations that a weaker answer of this depth takes besides those of the answer itself.

        A stack passes the weaker answer on its way; a solve that starts cold shares its first iterate.

        Args:
            depth: Depth of the weaker answer.
            cold: Whether the solve starts cold, or the share of solves that do.
        """
        return depth - cold * (depth > 0) if self.adjustable else 0

    def has_exit(self, grad_iterations: float) -> bool:
        """Tell whether there is an early exit if so many iterations are with gradient."""
        return grad_iterations > 1 if self.adjustable else self.iterations.start > 0


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
        blocks: Number of blocks that have weights.
        products: Weights of the linear layers that act on every token, in the blocks and the iterations.
        activations: Activations of one sample.
    """

    parameters: dict[str, int]
    macs: dict[str, int]
    explicit: int
    post: int
    answer: int
    middle: MiddleCost
    blocks: int
    products: int
    activations: Activations

    @property
    def total_parameters(self) -> int:
        """Number of parameters, without the fixed position table."""
        return sum(self.parameters.values())

    @property
    def weights_memory(self) -> int:
        """Bytes of the weights in float32, of the position table, and of the objects that hold them."""
        return BYTES * (self.total_parameters + self.activations.tokens) + _OBJECTS * self.blocks

    @property
    def packed_memory(self) -> int:
        """Bytes of the packed copies of weights with which a CPU samples."""
        return BYTES * self.products

    def sampling_memory(self, samples: int) -> int:
        """Return the bytes that an evaluation of this many samples takes at least, besides the weights."""
        return BYTES * samples * self.activations.alive

    def peak_memory(self, samples: int) -> int:
        """Return the bytes of the tensors, without weights, at the peak of an evaluation of this many samples.

        The solution of the previous timestep is one of them, from which the solve starts.
        """
        return BYTES * samples * (self.activations.alive + self.activations.around)

    def training_memory(
        self, samples: int, iterations: int, *, half: bool = False, recomputed: str = "none", shards: int = 1
    ) -> int:
        """Return the bytes that a training step takes at least, with AdamW and averaged weights.

        Args:
            samples: Number of samples at once.
            iterations: Number of iterations with gradient, if they can be chosen.
            half: Whether activations have 16 bits.
            recomputed: What is recomputed, as in `DiffusionTransformer.checkpoint_activations`.
            shards: Number of processes that may share the weights.
        """
        kept, middle = self.activations, self.middle
        blocks = self.explicit if middle.adjustable else self.explicit + middle.iterations.start
        block = kept.tokens if recomputed in ("blocks", "all") else kept.block
        iteration = kept.tokens if recomputed in ("iterations", "all") else kept.iteration
        values = blocks * block + (iterations * iteration if middle.adjustable else 0)
        # Weights, averages and two moments; then the activations, or as much again for the gradients.
        weights = BYTES * self.total_parameters // shards
        activations = samples * values * (2 if half else BYTES)
        return self.weights_memory // shards + 3 * weights + max(activations, weights)

    def passes(self, iterations: int) -> int:
        """Count the block passes of one evaluation with `iterations` iterations (footnote 4)."""
        return self.explicit + iterations * self.middle.passes

    def evaluation_macs(self, iterations: float) -> float:
        """Count the MACs of one evaluation per sample with `iterations` iterations, which may be a fractional mean."""
        return sum(self.macs.values()) + self.middle.prepare + iterations * self.middle.iterate

    def weak_passes(self, iterations: float) -> float:
        """Count the block passes of a weaker answer that takes `iterations` iterations of its own."""
        return self.post + iterations * self.middle.passes

    def weak_macs(self, iterations: float) -> float:
        """Count the MACs of a weaker answer that takes `iterations` iterations of its own, per sample."""
        return self.answer + iterations * self.middle.iterate

    def training_macs(
        self,
        iterations: float,
        no_grad_iterations: float,
        *,
        weak_iterations: float | None = None,
        exits: float = 0.0,
    ) -> float:
        """Count the MACs of a training step per sample; a backward pass costs as much as two forward passes.

        Args:
            iterations: Number of iterations.
            no_grad_iterations: How many of them are without gradient.
            weak_iterations: Iterations of a weaker answer that is trained too, besides these; None if there is none.
            exits: Number of early exits that are trained too, which may be a mean over steps.
        """
        macs = 3 * self.evaluation_macs(iterations) - 2 * no_grad_iterations * self.middle.iterate
        macs += 3 * exits * self.answer
        return macs if weak_iterations is None else macs + 3 * self.weak_macs(weak_iterations)


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
    # A block keeps the inputs of its two norms and their outputs, the inputs of the linear layers before attention, MLP
    # and projection, queries, keys, values, what attention and MLP return, and the MLP before and after its GELU.
    kept = T * (10 * D + 2 * hidden)
    if shape.middle_kind == "stack":
        injection = in_injection = each = 0
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
        in_injection = T * {"mlp": 5 * D, "linear": D}[shape.injection]
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
        blocks=(blocks := shape.pre_blocks + shape.middle_blocks + shape.post_blocks),
        products=blocks * weights + each,
        activations=Activations(
            alive=T * max(6 * D, 2 * D + 2 * hidden),
            block=kept,
            tokens=T * D,
            iteration=shape.middle_blocks * kept + in_injection,
            # The output of the pre blocks, the last solution, the input of the block, the modulations; and of a fixed
            # point the iterate before the injection, and the part of that which is constant.
            around=3 * T * D
            + shape.middle_blocks * 6 * D
            + T
            * {"stack": 0, "mlp": 3 * D, "linear": 2 * D}[
                shape.injection if shape.middle_kind == "fixed_point" else "stack"
            ],
        ),
    )
