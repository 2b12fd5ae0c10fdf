"""What a model costs, in the three currencies of every comparison here: parameters, exact MACs and block passes."""

from __future__ import annotations

from dataclasses import dataclass

from fpdm.models.middle import MiddleCost


@dataclass(frozen=True)
class ModelCost:
    """The cost of a model's parts, per sample.

    A MAC is one multiply-accumulate of a linear layer, a convolution or an attention product; what is done element by
    element is not counted. A block pass is one transformer block applied to all tokens, the paper's currency
    (Sec. 4.2), which leaves out the input injection although an iteration of FPDM-XL/2 costs 1.32 times a DiT block.

    Attributes:
        parameters: Number of parameters by part.
        macs: MACs by part of everything but the middle.
        explicit: Block passes outside the middle: pre and post blocks.
        middle: The middle's cost.
    """

    parameters: dict[str, int]
    macs: dict[str, int]
    explicit: int
    middle: MiddleCost

    @property
    def total_parameters(self) -> int:
        """Number of parameters, the fixed position table not among them."""
        return sum(self.parameters.values())

    def passes(self, iterations: int) -> int:
        """Block passes of one evaluation with `iterations` iterations (footnote 4)."""
        return self.explicit + iterations * self.middle.passes

    def evaluation_macs(self, iterations: float) -> float:
        """MACs of one evaluation per sample, with `iterations` iterations (a mean over samples may be a fraction)."""
        return sum(self.macs.values()) + self.middle.prepare + iterations * self.middle.iterate

    def training_macs(self, iterations: float, no_grad_iterations: float) -> float:
        """MACs of a training step per sample: a backward pass costs two forward ones, and some iterations have none."""
        return 3 * self.evaluation_macs(iterations) - 2 * no_grad_iterations * self.middle.iterate
